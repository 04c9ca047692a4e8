"""The bound on the chi-square mixture divergence, against exact sums over small distributions."""

import numpy as np
import pytest

from seqmatch.divergence_estimate import (
    OccupancySample,
    best_coefficients,
    bound_at,
    cross_fitted_bound,
)

P = np.array([0.6, 0.3, 0.1])
Q = np.array([0.2, 0.3, 0.5])
EXACT = 0.4666666667
"""Sum of (P - Q)^2 / (P + Q): method.md D, the fixture."""


def _population(features: np.ndarray, weights: np.ndarray) -> OccupancySample:
    return OccupancySample(features, weights, np.zeros(len(weights), dtype=int))


def _of(features: np.ndarray) -> tuple[OccupancySample, OccupancySample]:
    return _population(features, P), _population(features, Q)


def test_d9_the_optimal_reward_attains_the_divergence() -> None:
    best = 2 * (P - Q) / (P + Q)

    data, policy = _of(best[:, None])

    assert bound_at(np.array([1.0]), data, policy) == pytest.approx(EXACT, abs=1e-9)
    assert best_coefficients(data, policy) == pytest.approx([1.0])


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 0.0), (-7.0, 3.0), (1e-2, 1.0)])
def test_an_affine_map_of_the_optimal_reward_is_undone(scale: float, shift: float) -> None:
    reward = shift + scale * 2 * (P - Q) / (P + Q)

    data, policy = _of(np.stack([np.ones(3), reward], axis=1))

    value = bound_at(best_coefficients(data, policy), data, policy)
    assert value == pytest.approx(EXACT, abs=1e-9)


def test_any_other_reward_gives_less() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        data, policy = _of(rng.normal(size=(3, 1)))
        assert bound_at(best_coefficients(data, policy), data, policy) <= EXACT + 1e-12
        assert bound_at(rng.normal(size=1), data, policy) <= EXACT + 1e-12


def test_features_that_no_pair_has_change_nothing() -> None:
    best = 2 * (P - Q) / (P + Q)
    data, policy = _of(np.stack([best, np.zeros(3), best], axis=1))

    value = bound_at(best_coefficients(data, policy), data, policy)

    assert value == pytest.approx(EXACT, abs=1e-9)


def _sample(rng: np.random.Generator, law: np.ndarray, features: np.ndarray) -> OccupancySample:
    drawn = rng.choice(3, size=12, p=law)
    return OccupancySample(features[drawn], np.ones(12), np.arange(12) % 2)


@pytest.mark.parametrize("policy_law", [P, Q])
def test_on_small_samples_the_mean_is_below_the_divergence(policy_law: np.ndarray) -> None:
    """Three free parameters on 12 pairs: without the cross-fitting the mean is far above."""
    rng = np.random.default_rng(1)
    features = np.eye(3)
    exact = float(((P - policy_law) ** 2 / (P + policy_law)).sum())
    crossed, naive = [], []
    for _ in range(1000):
        data, policy = _sample(rng, P, features), _sample(rng, policy_law, features)
        crossed.append(cross_fitted_bound(data, policy))
        naive.append(bound_at(best_coefficients(data, policy), data, policy))

    standard_error = np.std(crossed) / np.sqrt(len(crossed))

    assert np.mean(crossed) <= exact + 3 * standard_error
    assert np.mean(naive) > exact + 3 * np.std(naive) / np.sqrt(len(naive))


def test_it_is_consistent() -> None:
    rng = np.random.default_rng(2)
    features = np.eye(3)
    drawn = [rng.choice(3, size=40_000, p=law) for law in (P, Q)]
    fold = np.arange(40_000) % 2

    sides = [OccupancySample(features[each], np.ones(40_000), fold) for each in drawn]

    assert cross_fitted_bound(*sides) == pytest.approx(EXACT, abs=0.02)


def test_on_two_prompts_it_says_nothing_rather_than_noise() -> None:
    rng = np.random.default_rng(3)

    for _ in range(50):
        sides = [
            OccupancySample(rng.normal(size=(4, 5)), np.ones(4), np.array([0, 0, 1, 1]))
            for _ in range(2)
        ]
        assert -0.1 <= cross_fitted_bound(*sides) <= 0.1


def test_one_half_without_rows_gives_zero() -> None:
    one = OccupancySample(np.ones((2, 1)), np.ones(2), np.zeros(2, dtype=int))

    assert cross_fitted_bound(one, one) == 0.0
