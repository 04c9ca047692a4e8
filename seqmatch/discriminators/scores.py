"""Scores h with their weights: all that a discriminator's loss needs of one side.

A loss is sum_i w_i g(h_i) over each side, with weights that sum to 1. So samples of whole answers,
of single actions, and exact laws over a table go through the same code, and however many of either
there are, both sides count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seqmatch.errors import ConfigError


@dataclass(frozen=True)
class WeightedScores:
    """Scores of demonstrations, or of rollouts, and how much each counts."""

    h: Float[Tensor, "*shape"]
    """log rho_data/rho_model, finite everywhere, in nats."""
    weights: Float[Tensor, "*shape"]
    """Not negative, 0 at padding; they sum to 1. No gradient."""

    def mean(self, each: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Returns sum_i w_i x_i."""
        return (self.weights * each).sum()


def token_weights(
    is_action: Bool[Tensor, "batch time"],
    discount: float,
    row_weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Returns the occupancy weights of the actions of each row: level `token`.

        w_t = (1 - gamma) gamma^t  for t < N - 1,   w_{N-1} = gamma^{N-1}

    The last action carries the absorbing tail, gamma^N, as well: it alone leads to the terminal
    state, whose density ratio is therefore its own (docs/method.md, "Discriminator", also on
    mistakes and limits). A row sums to its own weight, and gamma -> 1 is `trajectory_weights`.

    Args:
        is_action: True for t < N.
        discount: gamma, above 0 and below 1.
        row_weights: The probability of each row where the batch enumerates a law; None weighs each
            one 1/batch.

    Raises:
        ConfigError: The discount is outside its range.
    """
    if not 0.0 < discount < 1.0:
        raise ConfigError(f"discount is {discount}; allowed: above 0 and below 1")
    rows = _row_weights(is_action, row_weights)
    times = torch.arange(is_action.shape[1], device=is_action.device)
    powers = (discount ** times.double()).to(rows.dtype)
    weights = powers.where(_is_last(is_action), powers * (1.0 - discount))
    return torch.where(is_action, weights * rows[:, None], 0.0)


def trajectory_weights(
    is_action: Bool[Tensor, "batch time"], row_weights: Float[Tensor, " batch"] | None = None
) -> Float[Tensor, "batch time"]:
    """Returns each row's weight at its last action and 0 elsewhere: level `trajectory`.

    At the stop token h is the log ratio of the probabilities of whole answers.
    """
    rows = _row_weights(is_action, row_weights)
    return torch.where(_is_last(is_action), rows[:, None], 0.0)


def at_stop(
    h: Float[Tensor, "batch time"], is_action: Bool[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """Returns each row's value at its last action: the trajectory's h.

    Where a limit forced the stop token, that is the action in whose place it was pushed.
    """
    return h.where(_is_last(is_action), 0.0).sum(dim=1)


def _row_weights(
    is_action: Bool[Tensor, "batch time"], row_weights: Float[Tensor, " batch"] | None
) -> Float[Tensor, " batch"]:
    if row_weights is not None:
        return row_weights
    num_rows = is_action.shape[0]
    return torch.full((num_rows,), 1.0 / num_rows, device=is_action.device)


def _is_last(is_action: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    times = torch.arange(is_action.shape[1], device=is_action.device)
    return is_action & (times == is_action.sum(dim=1, keepdim=True) - 1)
