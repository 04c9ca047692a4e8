"""Relativistic losses: which of two answers is the demonstration, by the difference of scores.

They see differences only. Over independent pairs the minimiser is h = log P/Q + c with one free
constant c; over pairs that share a prompt c may depend on the prompt. `log_ratio_offset` finds it,
and without it a reward with R(0) = 0 has no meaning. With learnt deviations h is not a log ratio
at all: an order of answers, whose scale a penalty fixes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from seqmatch.discriminators.scores import WeightedScores

LOG_DEVIATION_LIMIT = 5.0
"""log V is held within +-5: deviations from 0.007 to 148."""


@dataclass(frozen=True)
class Pairs:
    """Scores of a better and a worse answer (or action) in each pair."""

    better: Float[Tensor, "*shape"]
    worse: Float[Tensor, "*shape"]
    weights: Float[Tensor, "*shape"]
    """Not negative; they sum to 1."""

    def mean(self, each: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Returns the weighted sum over pairs."""
        return (self.weights * each).sum()


def matched_pairs(
    data: Float[Tensor, " pair"],
    rollouts: Float[Tensor, " pair"],
    weights: Float[Tensor, " pair"] | None = None,
) -> Pairs:
    """Pairs each demonstration with the rollout at its place, usually to the same prompt.

    Args:
        data: h of demonstrations, one a pair.
        rollouts: h of rollouts in the same order.
        weights: Of the pairs; None weighs them alike.
    """
    even = torch.full_like(data, 1.0 / data.numel()) if weights is None else weights
    return Pairs(data, rollouts, even.detach())


def all_pairs(data: WeightedScores, rollouts: WeightedScores) -> Pairs:
    """Pairs everything of one side with everything of the other; weights are products.

    The number of pairs is the product of both numbers of entries with weight: for tokens choose
    some of them first.
    """
    in_data, in_rollouts = data.weights > 0, rollouts.weights > 0
    weights = data.weights[in_data][:, None] * rollouts.weights[in_rollouts][None, :]
    better = data.h[in_data][:, None].expand(weights.shape)
    worse = rollouts.h[in_rollouts][None, :].expand(weights.shape)
    return Pairs(better, worse, weights)


def bradley_terry(pairs: Pairs) -> Float[Tensor, ""]:
    """Computes -E log sigma(h(y+) - h(y-)), in nats; log 2 where nothing is told apart.

    Source: equation 27 of arXiv 2403.12017; relativistic discriminator: Jolicoeur-Martineau 2018.
    """
    return pairs.mean(softplus(pairs.worse - pairs.better))


def bradley_terry_with_deviations(
    pairs: Pairs, log_deviations: Pairs, *, scale_penalty: float = 1.0
) -> Float[Tensor, ""]:
    """Computes the Bradley-Terry loss with a learnt deviation V of each answer, scale fixed.

        L = -E log sigma( (R+ - R-) / sqrt((V+^2 + V-^2)/2) ) + w (mean log V)^2

    The first term is unchanged by (R, V) -> (c R, c V); the penalty chooses the c at which log V is
    0 on average, and changes nothing else at the optimum. V = 1 is `bradley_terry`. Beyond +-5
    log V has the value at the limit, and the gradient of a free one.

    Args:
        pairs: R, the scores.
        log_deviations: log V of the same answers; its weights are not read.
        scale_penalty: w, at least 0; 0 leaves the scale free.

    Source: equations 25 and 26 of arXiv 2403.12017, which agree: 1/2 + 1/2 tanh(z) = sigma(2 z)
    (D19). The penalty is ours.
    """
    log_better, log_worse = _held(log_deviations.better), _held(log_deviations.worse)
    margin = (pairs.better - pairs.worse) * _pooled(log_better, log_worse).neg().exp()
    mean = pairs.mean((log_better + log_worse) / 2)
    return pairs.mean(softplus(-margin)) + scale_penalty * mean.square()


def log_ratio_offset(rollouts: WeightedScores) -> Float[Tensor, ""]:
    """Computes c = log E_model[e^h]; at a relativistic loss's optimum h - c is log P/Q.

    Since E_model[P/Q] = 1. Needs the rollouts to reach all that is demonstrated; on few rollouts it
    is dominated by the largest h.
    """
    return (rollouts.h + rollouts.weights.log()).flatten().logsumexp(dim=0)


def _pooled(one: Tensor, other: Tensor) -> Tensor:
    """The logarithm of sqrt((V^2 + V'^2)/2), from log V and log V'."""
    return (torch.logaddexp(2 * one, 2 * other) - torch.log(torch.full_like(one, 2.0))) / 2


def _held(log_deviation: Tensor) -> Tensor:
    """Log V within the limit, with the gradient of log V itself."""
    clamped = log_deviation.clamp(-LOG_DEVIATION_LIMIT, LOG_DEVIATION_LIMIT)
    return log_deviation + (clamped - log_deviation).detach()
