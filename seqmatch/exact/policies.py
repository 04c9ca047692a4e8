"""Policies on a small chain: float64 logits of every action in every state, as parameters.

What a kind can represent (p is the softmax over the actions that exist, V the logsumexp):

- `tabular`: every state has logits of its own; any policy.
- `by_position`: the logits depend on the number of tokens alone, so the tokens of an answer are
  independent of each other; terminal states have a value of their own for each position.
- `bounded`: as tabular, but no logit leaves [-1.5, 1.5], so that no action gets less than e^-3, a
  twentieth, of the probability of another: a policy that slips now and then, whatever it learns.
"""

from abc import ABC, abstractmethod
from typing import assert_never

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqmatch.exact.languages import STOP, PolicyKind
from seqmatch.exact.token_chain import TokenChain

LOGIT_BOUND = 1.5


class ExactPolicy(nn.Module, ABC):
    """Logits over the states of a chain; subclasses say how parameters are shared."""

    def __init__(self, chain: TokenChain) -> None:
        super().__init__()
        self.chain = chain

    @abstractmethod
    def logits(self) -> Float[Tensor, "state action"]:
        """Returns l(a|s); -inf where the action does not exist."""

    def log_probs(self) -> Float[Tensor, "state action"]:
        """Returns log p(a|s) = l(a|s) - V(s); -inf where the action does not exist."""
        return self.logits().log_softmax(dim=-1)

    def values(self) -> Float[Tensor, " state"]:
        """Returns V(s) = log sum_a exp l(a|s); at a terminal state its one free number."""
        return self.logits().logsumexp(dim=-1)


class TabularPolicy(ExactPolicy):
    """One parameter for each action that exists in each state, and one for each terminal state."""

    def __init__(self, chain: TokenChain, entries: Float[Tensor, " entry"]) -> None:
        super().__init__(chain)
        self.entries = nn.Parameter(entries)

    def logits(self) -> Float[Tensor, "state action"]:
        """Returns the parameters in their places."""
        return _placed(self.chain, self.entries)


class BoundedPolicy(ExactPolicy):
    """As tabular with l = 1.5 sin(theta): the bounds are reached at finite parameters."""

    def __init__(self, chain: TokenChain, entries: Float[Tensor, " entry"]) -> None:
        super().__init__(chain)
        self.entries = nn.Parameter(entries)

    def logits(self) -> Float[Tensor, "state action"]:
        """Returns the bounded logits in their places."""
        return _placed(self.chain, LOGIT_BOUND * self.entries.sin())


class PositionPolicy(ExactPolicy):
    """Logits of each position, shared by all states of that length."""

    def __init__(
        self,
        chain: TokenChain,
        positions: Float[Tensor, "position action"],
        terminal_values: Float[Tensor, " position"],
    ) -> None:
        super().__init__(chain)
        self.positions = nn.Parameter(positions)
        self.terminal_values = nn.Parameter(terminal_values)

    def logits(self) -> Float[Tensor, "state action"]:
        """Returns each state's row by its position, and its value at a terminal state."""
        ended = self.positions.new_full((self.chain.max_length, self.chain.num_actions), -torch.inf)
        ended = torch.cat([self.terminal_values[:, None], ended[:, STOP + 1 :]], dim=-1)
        rows = torch.cat([self.positions, ended])
        place = self.chain.depth + torch.where(self.chain.is_terminal, self.chain.max_length - 1, 0)
        return rows[place].masked_fill(~self.chain.exists, -torch.inf)


def make_policy(chain: TokenChain, kind: PolicyKind, seed: int, scale: float = 1.0) -> ExactPolicy:
    """Returns a policy at a random start.

    Args:
        chain: Gives states and actions.
        kind: What the policy can represent.
        seed: Equal seeds give equal policies.
        scale: Standard deviation of the normal parameters, in nats (radians for `bounded`).
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    match kind:
        case "tabular":
            return TabularPolicy(chain, draw(int(chain.exists.sum())))
        case "bounded":
            return BoundedPolicy(chain, draw(int(chain.exists.sum())))
        case "by_position":
            positions = draw(chain.max_length, chain.num_actions)
            return PositionPolicy(chain, positions, draw(chain.max_length))
        case _:
            assert_never(kind)


def without_backspace(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> Float[Tensor, "state action"]:
    """Returns the same policy with backspace masked in decoding: p(x|s) / (1 - p(bkspc|s))."""
    if not chain.has_backspace:
        return log_probs
    masked = log_probs.index_fill(-1, torch.tensor(chain.backspace), -torch.inf)
    return masked.log_softmax(dim=-1)


def _placed(chain: TokenChain, entries: Float[Tensor, " entry"]) -> Float[Tensor, "state action"]:
    empty = entries.new_full(chain.exists.shape, -torch.inf)
    return empty.masked_scatter(chain.exists, entries)
