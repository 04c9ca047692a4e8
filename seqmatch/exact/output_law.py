"""The law of whole answers of a policy: what stands in the end when it may take tokens back.

With b(s) = p(bkspc|s) and w(s) the probability that s, once entered, is deleted again, a child is
kept with probability k = 1 - w:

    K(s) = sum_x p(x|s) k(sx),   k(s) = K(s) / (K(s) + b(s)),   k(terminal) = 1
    P_out(x kept next | s kept) = p(x|s) k(sx) / K(s)

which is w(s) = b(s) / (1 - sum_x p(x|s) w(sx)) of docs/method.md, "Output law", written without
differences: 1 - sum_x p w = K + b. Without backspace it is the product of the policy's
probabilities. Derived (D17).
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seqmatch.exact.languages import Language
from seqmatch.exact.token_chain import TokenChain


def output_law(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> Float[Tensor, " terminal"]:
    """Computes the probability of each answer, in the order of `chain.terminal`; sums to 1.

    Args:
        chain: States and where actions lead.
        log_probs: log p(a|s) of a policy under which every state has a way to the stop token.

    Returns:
        Probabilities, differentiable with respect to `log_probs`.
    """
    return log_output_law(chain, log_probs).exp()


def log_output_law(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> Float[Tensor, " terminal"]:
    """Computes the natural logarithm of `output_law`, exact where that is too small for a float."""
    if chain.has_backspace:
        steps = _kept_steps(chain, log_probs)
    else:
        steps = [_step(chain, log_probs, depth) for depth in range(chain.max_length)]
    ended: list[Tensor] = []
    paths = log_probs.new_zeros(1)
    for depth, step in enumerate(steps):
        entered = (paths[:, None] + step).flatten()
        is_terminal = chain.is_terminal[chain.levels[depth + 1]]
        ended.append(entered[is_terminal])
        paths = entered[~is_terminal]
    return torch.cat(ended)


@lru_cache(maxsize=8)
def data_law(chain: TokenChain, language: Language) -> Float[Tensor, " terminal"]:
    """Returns the language's own law of answers, in the order of `chain.terminal`.

    Cached, because losses ask for it at every step; do not write to it.
    """
    answers = [chain.states[number] for number in chain.terminal.tolist()]
    law = [language.law.get(answer, 0.0) for answer in answers]
    return torch.tensor(law, dtype=torch.float64)


def simulate(
    chain: TokenChain,
    log_probs: Float[Tensor, "state action"],
    num: int,
    generator: torch.Generator,
) -> Int[Tensor, " answer"]:
    """Samples answers by decoding: one action after another until the stop token.

    Args:
        chain: States and where actions lead.
        log_probs: log p(a|s); the policy must stop with probability 1.
        num: Number of answers.
        generator: Equal states give equal answers.

    Returns:
        The number of the terminal state of each answer.
    """
    thresholds = log_probs.detach().exp().cumsum(dim=-1)
    thresholds = thresholds / thresholds[:, -1:]
    states = torch.zeros(num, dtype=torch.long)
    running = torch.arange(num)
    while len(running):
        here = states[running]
        draws = torch.rand(len(running), 1, generator=generator, dtype=torch.float64)
        actions = (draws >= thresholds[here]).sum(dim=-1)
        states[running] = chain.next_state[here, actions]
        running = running[~chain.is_terminal[states[running]]]
    return states


def _step(
    chain: TokenChain, log_probs: Float[Tensor, "state action"], depth: int
) -> Float[Tensor, "alive child"]:
    """Returns log p of entering each child, for every state of a depth that is not terminal."""
    inserts = log_probs[chain.alive_levels[depth], : chain.vocab]
    if depth == chain.max_length - 1:  # whatever is inserted, the stop token is
        return inserts.logsumexp(dim=-1, keepdim=True)
    return inserts


def _kept_steps(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> list[Float[Tensor, "alive child"]]:
    """Returns log P_out of each token kept next, depth by depth, computed from the leaves."""
    steps: list[Tensor] = []
    kept = log_probs.new_zeros(len(chain.alive_levels[chain.max_length - 1]))
    for depth in range(chain.max_length - 1, -1, -1):
        weights = _step(chain, log_probs, depth) + kept.view(len(chain.alive_levels[depth]), -1)
        stays = weights.logsumexp(dim=-1)
        steps.append(weights - stays[:, None])
        if depth:
            alive = chain.alive_levels[depth]
            log_k = stays - stays.logaddexp(log_probs[alive, chain.backspace])
            level = chain.levels[depth]
            kept = log_probs.new_zeros(level.stop - level.start)
            kept = kept.index_put((alive - level.start,), log_k)
    return steps[::-1]
