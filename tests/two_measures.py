"""A small language and a policy on it as exact measures, and the free table of scores on them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.languages import parse_language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.policies import make_policy
from seqmatch.exact.token_chain import TokenChain

TABLE = "a 0.15\nb 0.05\naa 0.2\nab 0.05\nba 0.15\nbb 0.4\n"
"""Whole answers over two letters; nothing but the empty answer is missing."""


@dataclass(frozen=True)
class TwoMeasures:
    """Occupancies of the data and of a random policy, and the policies themselves."""

    chain: TokenChain
    demonstrator: Demonstrator
    data_log_probs: Tensor
    model_log_probs: Tensor
    data: Tensor
    """rho_data(s, a); absorbed mass on the terminal states' stop token."""
    model: Tensor


def two_measures(seed: int = 0) -> TwoMeasures:
    """The model never stops at once either, so that both measures have the same support."""
    language = parse_language(TABLE)
    chain = TokenChain.of(language, backspace=False)
    demonstrator = Demonstrator.of(language, chain)
    logits = make_policy(chain, "tabular", seed).logits().detach()
    logits[0, 0] = -torch.inf
    model_log_probs = logits.log_softmax(-1)
    return TwoMeasures(
        chain=chain,
        demonstrator=demonstrator,
        data_log_probs=demonstrator.probs().log(),
        model_log_probs=model_log_probs,
        data=demonstrator.clean_occupancy(),
        model=state_action_occupancy(chain, model_log_probs, language.discount),
    )


def minimiser(loss: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where a smooth loss of a table is least, by L-BFGS in float64."""
    table = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [table],
        max_iter=2000,
        tolerance_grad=1e-13,
        tolerance_change=0.0,
        history_size=100,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        value = loss(table)
        value.backward()  # type: ignore[no-untyped-call]  # torch's own
        return value

    optimizer.step(evaluate)  # type: ignore[no-untyped-call]  # torch's own
    return table.detach()
