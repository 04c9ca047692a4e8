"""A lower bound on the chi-square mixture divergence between two sets of trajectories.

For occupancy measures P (demonstrations) and Q (policy) with mixture M = (P + Q)/2,

    2 chi2(P || M) = sum (P - Q)^2 / (P + Q) = sup_r E_P[r - r^2/4] - E_Q[r + r^2/4],   in [0, 2],

attained at r* = 2 (P - Q)/(P + Q). Any other r gives less, so the supremum over r = c . features
is a lower bound; it is quadratic in c and has a closed form. With b = E_P[x] - E_Q[x] and A =
E_P[x x'] + E_Q[x x'] it is c* = 2 A^-1 b with value b' A^-1 b.

On a sample the same supremum would be biased upwards, since c is fitted to the noise. So c is
fitted on one half of the prompts and valued on the other, both ways round: each half is then an
unbiased estimate of the bound of a fixed r, which in expectation is at most the divergence. It
can therefore be slightly negative where the divergence is near zero.

On few prompts the fitted c is mostly noise: with P = Q the fitted value is about
k (1/n_P + 1/n_Q) / 2 for k features and n effective rows. So r is shrunk by max(0, 1 - that/value)
before it is valued; r = 0 gives 0, also a bound.

Weights: an action at time t has (1 - gamma) gamma^t, the absorbing state of a trajectory with N
actions has gamma^N, mean over trajectories; they sum to 1.

Source: Cundy & Ermon (2023), the chi-square mixture; the variational form is that of IQ-Learn. The
cross-fitting and the shrinking (positive-part James-Stein) are ours.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class OccupancySample:
    """State-action pairs, absorbing ones included, of some trajectories."""

    features: Float[np.ndarray, "pair feature"]
    """What the reward may be a linear function of."""
    weights: Float[np.ndarray, " pair"]
    """Occupancy weights; they sum to 1 for each trajectory."""
    fold: Int[np.ndarray, " pair"]
    """0 or 1: the half of the prompts that the pair's trajectory belongs to."""

    def half(self, fold: int) -> "OccupancySample":
        """Returns the pairs of one half of the prompts."""
        chosen = self.fold == fold
        return OccupancySample(self.features[chosen], self.weights[chosen], self.fold[chosen])


def best_coefficients(
    data: OccupancySample, policy: OccupancySample
) -> Float[np.ndarray, " feature"]:
    """Returns c* = 2 A^-1 b, the reward r = c . features that maximises the bound on this sample.

    Directions that neither side has (A singular) get no weight.
    """
    scale = np.maximum(np.abs(data.features).max(axis=0), np.abs(policy.features).max(axis=0))
    scale = np.where(scale > 0.0, scale, 1.0)
    data_weights, policy_weights = _normalised(data.weights), _normalised(policy.weights)
    x_data, x_policy = data.features / scale, policy.features / scale
    difference = data_weights @ x_data - policy_weights @ x_policy
    second_moments = (x_data.T * data_weights) @ x_data + (x_policy.T * policy_weights) @ x_policy
    inverse = np.linalg.pinv(second_moments, rcond=1e-8, hermitian=True)
    coefficients: Float[np.ndarray, " feature"] = 2.0 * (inverse @ difference) / scale
    return coefficients


def shrunk_coefficients(
    data: OccupancySample, policy: OccupancySample
) -> Float[np.ndarray, " feature"]:
    """Returns `best_coefficients` times max(0, 1 - what noise alone would reach / their value)."""
    coefficients = best_coefficients(data, policy)
    data_weights, policy_weights = _normalised(data.weights), _normalised(policy.weights)
    difference = data_weights @ data.features - policy_weights @ policy.features
    value = float(difference @ coefficients) / 2.0
    inverse_rows = float((data_weights**2).sum() + (policy_weights**2).sum())
    noise = len(coefficients) * inverse_rows / 2.0
    result: Float[np.ndarray, " feature"] = coefficients * max(0.0, 1.0 - noise / max(value, noise))
    return result


def bound_at(
    coefficients: Float[np.ndarray, " feature"], data: OccupancySample, policy: OccupancySample
) -> float:
    """Returns E_P[r - r^2/4] - E_Q[r + r^2/4]; r = c . features, clipped to r*'s range [-2, 2]."""
    reward_data = np.clip(data.features @ coefficients, -2.0, 2.0)
    reward_policy = np.clip(policy.features @ coefficients, -2.0, 2.0)
    gain = _normalised(data.weights) @ (reward_data - reward_data**2 / 4.0)
    cost = _normalised(policy.weights) @ (reward_policy + reward_policy**2 / 4.0)
    return float(gain - cost)


def cross_fitted_bound(data: OccupancySample, policy: OccupancySample) -> float:
    """Returns the mean of the two bounds, each fitted on one half and valued on the other.

    Needs at least one trajectory of either side in each half; fewer give 0, a bound of any pair.
    """
    halves = [(data.half(fold), policy.half(fold)) for fold in (0, 1)]
    if any(side.weights.size == 0 for half in halves for side in half):
        return 0.0
    first, second = halves
    return 0.5 * (
        bound_at(shrunk_coefficients(*first), *second)
        + bound_at(shrunk_coefficients(*second), *first)
    )


def _normalised(weights: Float[np.ndarray, " pair"]) -> Float[np.ndarray, " pair"]:
    result: Float[np.ndarray, " pair"] = weights / weights.sum()
    return result
