"""How well scores tell demonstrations from rollouts; chance is 1/2. No gradients."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from seqmatch.discriminators.scores import WeightedScores


@torch.no_grad()
def hit_rates(
    data: WeightedScores, rollouts: WeightedScores
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Computes the shares of either side that the sign of h gets right; h = 0 is half."""
    of_data = data.mean((data.h.sign() + 1) / 2)
    of_rollouts = rollouts.mean((1 - rollouts.h.sign()) / 2)
    # Weights sum to 1 up to rounding.
    return of_data.clamp(0.0, 1.0), of_rollouts.clamp(0.0, 1.0)


@torch.no_grad()
def accuracy(data: WeightedScores, rollouts: WeightedScores) -> Float[Tensor, ""]:
    """Computes the mean of both sides' hit rates."""
    of_data, of_rollouts = hit_rates(data, rollouts)
    return (of_data + of_rollouts) / 2


@torch.no_grad()
def verdict_entropy(data: WeightedScores, rollouts: WeightedScores) -> Float[Tensor, ""]:
    """Computes the mean entropy of Bernoulli(sigma(h)), the mean of both sides, in nats.

    H = softplus(h) - h sigma(h): log 2 at h = 0, near 0 where the verdict is sure.
    """
    sides = [side.mean(softplus(side.h) - side.h * side.h.sigmoid()) for side in (data, rollouts)]
    return (sides[0] + sides[1]) / 2


@torch.no_grad()
def auc(data: WeightedScores, rollouts: WeightedScores) -> Float[Tensor, ""]:
    """Computes P(h(demonstration) > h(rollout)) + P(equal)/2 under the weights.

    The area under the curve of hits over false alarms, for all thresholds at once.
    """
    order = rollouts.h.flatten().argsort()
    ordered = rollouts.h.flatten()[order].contiguous()
    below = torch.nn.functional.pad(rollouts.weights.flatten()[order].cumsum(0), (1, 0))
    scores = data.h.flatten()
    less = below[torch.searchsorted(ordered, scores, right=False)]
    at_most = below[torch.searchsorted(ordered, scores, right=True)]
    return (data.weights.flatten() * (less + at_most) / 2).sum()
