"""Occupancy measures of a policy, exactly: one linear solve, with its gradient.

rho(s) = (1 - gamma) sum_t gamma^t P(s_t = s) solves (I - gamma P^T) rho = (1 - gamma) mu_0, where
P(s, s') is the policy's transition matrix and mu_0 the empty state. The states are a tree and every
action leads to a child, the parent or back to the state itself, so that eliminating from the leaves
to the root is an LU decomposition without fill-in: two sweeps over the depths, each a few
vectorised operations, instead of a general sparse solver. Derived; tests hold it to a dense solve.

With p_s the probability of the step from the parent to s, b_s that of backspace, l_s that of
staying and D_s the pivot,

    D_s = 1 - gamma l_s - gamma^2 sum_{c child} p_c b_c / D_c        (from the leaves)
    rho(root) = (1 - gamma) / D_root,  rho(c) = gamma p_c rho(parent) / D_c      (from the root)

The gradient is that of the adjoint system (I - gamma P) x = g with the same pivots:
d/dp(a|s) = gamma rho(s) x(s'), s' the state that a leads to.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmatch.errors import ConfigError
from seqmatch.exact.token_chain import TokenChain

Array = npt.NDArray[np.float64]


def state_occupancy(
    chain: TokenChain, log_probs: Float[Tensor, "state action"], discount: float
) -> Float[Tensor, " state"]:
    """Computes rho(s) = (1 - gamma) sum_t gamma^t P(s_t = s), absorbing tail included; sums to 1.

    Args:
        chain: States and where actions lead.
        log_probs: log p(a|s), -inf for what is never done; float64.
        discount: gamma, above 0 and below 1.

    Returns:
        One number a state, differentiable once with respect to `log_probs`.

    Raises:
        ConfigError: The discount is outside its range.

    Source: Cundy & Ermon (arXiv 2306.05426), the occupancy measure; Puterman, the linear system.
    """
    if not 0.0 < discount < 1.0:
        raise ConfigError(f"discount {discount}; allowed: above 0 and below 1")
    rho: Tensor = _Occupancy.apply(log_probs.exp(), chain, discount)  # type: ignore[no-untyped-call]
    return rho


def state_action_occupancy(
    chain: TokenChain, log_probs: Float[Tensor, "state action"], discount: float
) -> Float[Tensor, "state action"]:
    """Computes rho(s, a) = rho(s) p(a|s); sums to 1.

    The absorbed mass gamma^N of an answer stands at its terminal state, on the stop token, which is
    the one action there. Arguments and errors as for `state_occupancy`.
    """
    return state_occupancy(chain, log_probs, discount)[:, None] * log_probs.exp()


def discounted_visits(
    chain: TokenChain, log_probs: Float[Tensor, "state action"], discount: float
) -> Float[Tensor, " state"]:
    """Computes sum_t gamma^t P(s_t = s), an end being visited once; without gradient.

    For gamma = 1 the expected number of visits; the policy must then stop with probability 1.
    """
    source = np.zeros(chain.num_states)
    source[0] = 1.0
    return torch.from_numpy(_until_the_end(chain, log_probs, discount).solve(source))


def action_values(
    chain: TokenChain,
    log_probs: Float[Tensor, "state action"],
    rewards: Float[Tensor, "state action"],
    end_values: Float[Tensor, " state"],
    discount: float,
) -> Float[Tensor, "state action"]:
    """Computes Q(s, a) = r(s, a) + gamma W(s'), W the expected return; without gradient.

    W(s) = sum_a p(a|s) Q(s, a) where an action can be taken, and `end_values` at terminal states.
    Exact also with backspace, where answers come back to states for ever.

    Args:
        chain: States and where actions lead.
        log_probs: log p(a|s).
        rewards: r(s, a); what stands at terminal states and at probability 0 is not read.
        end_values: All that follows a terminal state; read there only.
        discount: gamma, above 0, at most 1; with 1 the policy must stop with probability 1.
    """
    probs = log_probs.detach().exp()
    gained = (probs * rewards).masked_fill(probs == 0.0, 0.0).sum(dim=1)
    source = gained.where(~chain.is_terminal, end_values)
    system = _until_the_end(chain, log_probs, discount)
    values = torch.from_numpy(system.solve_adjoint(source.numpy()))
    return rewards + discount * values[chain.next_state]


def _until_the_end(chain: TokenChain, log_probs: Tensor, discount: float) -> "_System":
    """I - gamma P without the steps of terminal states."""
    probs = log_probs.detach().exp().masked_fill(chain.is_terminal[:, None], 0.0)
    return _System(chain, probs.numpy(), discount)


class _Occupancy(torch.autograd.Function):
    """The solve as a function of p(a|s), and its adjoint."""

    @staticmethod
    def forward(ctx: Any, probs: Tensor, chain: TokenChain, discount: float) -> Tensor:
        system = _System(chain, probs.detach().numpy(), discount)
        source = np.zeros(chain.num_states)
        source[0] = 1.0 - discount
        rho = system.solve(source)
        ctx.chain, ctx.discount, ctx.system, ctx.rho = chain, discount, system, rho
        return torch.from_numpy(rho)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        adjoint = torch.from_numpy(ctx.system.solve_adjoint(gradient.numpy()))
        rho = torch.from_numpy(ctx.rho)
        return ctx.discount * rho[:, None] * adjoint[ctx.chain.next_state], None, None


class _System:
    """I - gamma P of one policy, eliminated: what enters and leaves each state, and the pivots."""

    def __init__(self, chain: TokenChain, probs: Array, discount: float) -> None:
        self._tree = _tree(chain)
        entering = probs[self._tree.parent, self._tree.last_token]
        limit = self._tree.alive[-2]
        entering[chain.levels[-1]] = probs[limit, : chain.vocab].sum(axis=1)
        entering[0] = 0.0
        self._enter = discount * entering
        stay = np.where(self._tree.is_terminal, probs.sum(axis=1), 0.0)
        self._leave = np.zeros(chain.num_states)
        self._pivot = 1.0 - discount * stay
        if chain.has_backspace:
            self._pivot[0] -= discount * probs[0, chain.backspace]
            self._leave = discount * probs[:, chain.backspace] * self._tree.can_delete
            there_and_back = self._enter * self._leave
            for depth in self._tree.upwards:
                below = chain.levels[depth + 1]
                loss = -there_and_back[below] / self._pivot[below]
                self._tree.add_to_parents(depth, loss, self._pivot)

    def solve(self, source: Array) -> Array:
        """Solves (I - gamma P^T) x = source."""
        return self._solve(source, from_parent=self._enter, from_child=self._leave)

    def solve_adjoint(self, source: Array) -> Array:
        """Solves (I - gamma P) x = source."""
        return self._solve(source, from_parent=self._leave, from_child=self._enter)

    def _solve(self, source: Array, from_parent: Array, from_child: Array) -> Array:
        """Solves pivot-wise x_s = source_s + from_parent_s x_parent + sum_c from_child_c x_c."""
        x = source.copy()
        share = from_child / self._pivot
        for depth in self._tree.upwards:
            below = self._tree.levels[depth + 1]
            self._tree.add_to_parents(depth, share[below] * x[below], x)
        x /= self._pivot
        share = from_parent / self._pivot
        for level in self._tree.levels[1:]:
            x[level] += share[level] * x[self._tree.parent[level]]
        return x


@dataclass(frozen=True, eq=False)
class _Tree:
    """The part of a chain that does not depend on the policy, as numpy arrays."""

    levels: tuple[slice, ...]
    parent: npt.NDArray[np.int64]
    last_token: npt.NDArray[np.int64]
    is_terminal: npt.NDArray[np.bool_]
    can_delete: npt.NDArray[np.bool_]
    alive: tuple[npt.NDArray[np.int64], ...]
    """Numbers of the states of each depth that have children."""

    @property
    def upwards(self) -> range:
        """The depths that have children, the deepest first."""
        return range(len(self.levels) - 2, -1, -1)

    def add_to_parents(self, depth: int, below: Array, sums: Array) -> None:
        """Adds to each living state of a depth what its children have; they are the next depth."""
        alive = self.alive[depth]
        sums[alive] += below.reshape(len(alive), -1).sum(axis=1)


@lru_cache(maxsize=8)
def _tree(chain: TokenChain) -> _Tree:
    return _Tree(
        levels=chain.levels,
        parent=chain.parent.numpy(),
        last_token=chain.last_token.numpy(),
        is_terminal=chain.is_terminal.numpy(),
        can_delete=chain.can_delete.numpy(),
        alive=tuple(level.numpy() for level in chain.alive_levels),
    )
