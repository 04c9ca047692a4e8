"""Soft temporal differences along trajectories: what SequenceMatch's loss and its estimates share.

Discounting is by the action's index t, counted from the first answer token; a backspace is an
action like any other and takes one step of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqmatch.types import StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class TemporalDifferences:
    """A batch of trajectories as discounted sums are taken over it; 0 beyond the last action."""

    discount: float
    weights: Float[Tensor, "batch time"]
    """gamma^t for t < N."""
    nll: Float[Tensor, "batch time"]
    """V(s_t) - l(y_t|s_t), in nats."""
    td: Float[Tensor, "batch time"]
    """d_t = l(y_t|s_t) - gamma V(s_{t+1}), in nats; alpha d_t is the implied reward."""
    target_gap: Float[Tensor, "batch time"]
    """V(s_{t+1}) less what stands for it in d_t, a target network's; 0 without one."""
    end_weight: Float[Tensor, " batch"]
    """gamma^N."""
    end_value: Float[Tensor, " batch"]
    """V(s_N)."""
    num_actions: Float[Tensor, " batch"]
    """N."""
    mean: Callable[[Float[Tensor, " batch"]], Float[Tensor, ""]]
    """The mean over trajectories, by their weights where they have some."""

    def discounted_sum(self, terms: Float[Tensor, "batch time"]) -> Float[Tensor, ""]:
        """Sums gamma^t times the terms over each trajectory; mean over trajectories."""
        return self.mean((self.weights * terms).sum(dim=1))

    def discounted_end(self, terms: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Weighs terms of the terminal state by gamma^N; mean over trajectories."""
        return self.mean(self.end_weight * terms)

    def value_sum(self) -> Float[Tensor, ""]:
        """Sums gamma^t [V(s_t) - gamma V(s_{t+1})], plus gamma^N V(s_N).

        V(s_t) - gamma V(s_{t+1}) = nll_t + d_t. Telescopes to V(s_0) on every trajectory, unless
        the values of next states come from a target network.
        """
        return self.discounted_sum(self.nll + self.td) + self.discounted_end(self.end_value)

    def share_beyond(self, limit: float) -> Float[Tensor, ""]:
        """Returns the share of all actions with |d_t| above a limit in nats, undiscounted."""
        beyond = (self.td.abs() > limit).sum(dim=1).to(self.td.dtype)
        return self.mean(beyond) / self.mean(self.num_actions)

    def mean_target_gap(self) -> Float[Tensor, ""]:
        """Returns the mean of |V(s_{t+1}) - V of the target network| over all actions, in nats."""
        return self.mean(self.target_gap.abs().sum(dim=1)) / self.mean(self.num_actions)

    def mean_absolute_td(self) -> Float[Tensor, ""]:
        """Returns the mean of |d_t| over all actions of the batch, undiscounted, in nats."""
        return self.mean(self.td.abs().sum(dim=1)) / self.mean(self.num_actions)


def temporal_differences(data: StateActionValues, discount: float) -> TemporalDifferences:
    """Computes what the discounted sums of SequenceMatch are taken over.

    d_t = l(y_t|s_t) - gamma V(s_{t+1}), where s_{t+1} is the state really reached, which noise
    makes another one than the label leads to; V(s_{t+1}) is `data.next_values` where there are
    some. The end keeps the policy's own V(s_N). Not invariant to l(.|s) + c(s): V is a value.

    Args:
        data: Values along trajectories.
        discount: gamma, in (0, 1).

    Source: Cundy & Ermon (arXiv 2306.05426), inverse soft Bellman operator and equation 4.
    """
    beyond = data.is_action.logical_not()
    times = data.is_action.cumsum(dim=1) - 1
    num_actions = data.is_action.sum(dim=1)
    length = num_actions.to(data.values.dtype)
    own = data.values[:, 1:]
    following = own if data.next_values is None else data.next_values
    weights = (discount ** times.to(data.values.dtype)).masked_fill(beyond, 0.0)
    td = data.chosen_q - discount * following
    return TemporalDifferences(
        discount=discount,
        weights=weights,
        nll=data.token_nll(),
        td=td.masked_fill(beyond, 0.0),
        target_gap=(own - following).masked_fill(beyond, 0.0),
        end_weight=discount**length,
        end_value=data.values.gather(1, num_actions.unsqueeze(1)).squeeze(1),
        num_actions=length,
        mean=data.mean,
    )
