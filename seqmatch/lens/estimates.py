"""Divergences between the laws of whole answers from scores h that were fitted on other prompts.

P = demonstrations, Q = rollouts, h near log P/Q of whole answers. Two numbers for each registered
divergence, a family with a parameter at its default order:

    bound    E_P[T(h)] - E_Q[R(h)]   (`seqmatch.discriminators.variational_bound`)
    plug_in  E_P[f(e^-h)]

Both equal D where h = log P/Q.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seqmatch.discriminators import WeightedScores, data_potential
from seqmatch.discriminators.losses import SCORE_LIMIT
from seqmatch.divergences import DIVERGENCES, Divergence
from seqmatch.errors import ConfigError
from seqmatch.lens.prompt_intervals import Interval, mean_interval

BOUND_KIND = "lower bound in expectation, cross-fitted over prompts"
PLUG_IN_KIND = "biased, neither an upper nor a lower bound"


@dataclass(frozen=True)
class DivergenceEstimate:
    """What is known of one divergence."""

    name: str
    """In the registry."""
    title: str
    bound: Interval
    """Of the kind `BOUND_KIND`; normal over prompts. Slightly below 0 where D is near 0."""
    plug_in: float
    """Of the kind `PLUG_IN_KIND`, never below 0: an h that is too far from 0 makes it too large,
    one that is held back too small."""


def plug_in(
    divergence: Divergence, data: WeightedScores, *, score_limit: float = SCORE_LIMIT
) -> Float[Tensor, ""]:
    """Computes E_data[f(e^{-h})], |h| held within the limit.

    It has no expectation over rollouts at all: an error of h goes into it unchecked.
    """
    held = data.h.clamp(-score_limit, score_limit)
    return data.mean(divergence.generator_of_log_ratio(-held))


def cross_fitted_estimates(
    data: Float[np.ndarray, " answer"],
    rollouts: Float[np.ndarray, " answer"],
    groups: Sequence[int],
    *,
    score_limit: float = SCORE_LIMIT,
) -> tuple[DivergenceEstimate, ...]:
    """Returns the estimates of every registered divergence, in the registry's order.

    Args:
        data: h of demonstrations, from a probe that has not seen their prompts.
        rollouts: h of rollouts, row by row to the same prompts.
        groups: The prompt of each row.
        score_limit: Where |h| is held, in nats; the value at a held h is a bound as well.

    Raises:
        ConfigError: The two sides are not paired row by row.

    Source: Nowozin et al. 2016 (f-GAN), equation 6; that no lower bound on a KL from n samples
    exceeds O(log n): McAllester & Stratos 2020.
    """
    if len(data) != len(rollouts):
        raise ConfigError(
            f"{len(data)} demonstrations and {len(rollouts)} rollouts; allowed: one rollout for "
            "each demonstration, in its order"
        )
    of_data, of_rollouts = (torch.from_numpy(side).double() for side in (data, rollouts))
    return tuple(
        _estimate(divergence, of_data, of_rollouts, groups, score_limit)
        for divergence in DIVERGENCES.values()
    )


def _estimate(
    divergence: Divergence,
    data: Float[Tensor, " answer"],
    rollouts: Float[Tensor, " answer"],
    groups: Sequence[int],
    score_limit: float,
) -> DivergenceEstimate:
    """The terms of `variational_bound`, one difference a prompt."""
    held = data.clamp(-score_limit, score_limit)
    rewards = divergence.policy_reward(rollouts.clamp(-score_limit, score_limit))
    terms = (data_potential(divergence, held) - rewards).numpy()
    weights = torch.full_like(data, 1.0 / len(data))
    found = plug_in(divergence, WeightedScores(data, weights), score_limit=score_limit)
    return DivergenceEstimate(
        divergence.name, divergence.title, mean_interval(terms, groups), float(found)
    )
