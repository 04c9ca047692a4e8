"""The lens's estimates on exact laws, where every divergence is known, and its intervals."""

import numpy as np
import pytest
import torch

from seqmatch.discriminators import WeightedScores, auc, variational_bound
from seqmatch.divergences import DIVERGENCES
from seqmatch.errors import ConfigError
from seqmatch.lens import (
    calibration_bins,
    calibration_error,
    cross_fitted_estimates,
    plug_in,
)
from seqmatch.lens.calibration import mean_entropy
from seqmatch.lens.prompt_intervals import auc_interval, auc_placements, mean_interval
from seqmatch.metrics import METRICS

COUNTS_DATA = np.array([50, 20, 15, 10, 5])
COUNTS_MODEL = np.array([10, 10, 20, 30, 30])


def _f(name: str, u: np.ndarray) -> np.ndarray:
    """Generators by their textbook formulas, apart from the registry's own code."""
    values: dict[str, np.ndarray] = {
        "chi_square_mixture": (u - 1) ** 2 / (u + 1),
        "forward_kl": -np.log(u) + u - 1,
        "reverse_kl": u * np.log(u) - u + 1,
        "jensen_shannon": u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
        "chi_square_pearson": (u - 1) ** 2,
        "chi_square_neyman": (1 - u) ** 2 / u,
        "squared_hellinger": (np.sqrt(u) - 1) ** 2,
        "total_variation": np.abs(u - 1) / 2,
        "alpha": 2 * (np.sqrt(u) - 1) ** 2,
    }
    return values[name]


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_with_the_exact_ratio_bound_and_plug_in_are_the_divergence(name: str) -> None:
    """Two samples whose frequencies are the two laws exactly, with h = log P/Q of each answer."""
    p, q = COUNTS_DATA / 100, COUNTS_MODEL / 100
    exact = float((p * _f(name, q / p)).sum())
    h = np.log(p / q)
    data, rollouts = np.repeat(h, COUNTS_DATA), np.repeat(h, COUNTS_MODEL)

    found = cross_fitted_estimates(data, rollouts, range(100))

    (estimate,) = [each for each in found if each.name == name]
    assert estimate.bound.value == pytest.approx(exact, abs=1e-9)
    assert estimate.plug_in == pytest.approx(exact, abs=1e-9)
    assert estimate.bound.low < estimate.bound.value < estimate.bound.high
    law = WeightedScores(torch.from_numpy(h), torch.from_numpy(p))
    assert float(plug_in(DIVERGENCES[name], law)) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_no_other_ratio_gives_a_larger_bound(name: str) -> None:
    p, q = COUNTS_DATA / 100, COUNTS_MODEL / 100
    exact = float((p * _f(name, q / p)).sum())
    rng = np.random.default_rng(0)

    for _ in range(20):
        h = np.log(p / q) + rng.normal(0, 1, 5)
        found = cross_fitted_estimates(
            np.repeat(h, COUNTS_DATA), np.repeat(h, COUNTS_MODEL), range(100)
        )
        (estimate,) = [each for each in found if each.name == name]
        assert estimate.bound.value <= exact + 1e-9


def test_the_estimates_are_those_of_the_variational_bound_in_the_registrys_order() -> None:
    rng = np.random.default_rng(1)
    data, rollouts = rng.normal(1, 2, 30), rng.normal(-1, 2, 30)
    sides = [
        WeightedScores(torch.from_numpy(side), torch.full((30,), 1 / 30, dtype=torch.float64))
        for side in (data, rollouts)
    ]

    found = cross_fitted_estimates(data, rollouts, range(30), score_limit=1.5)

    assert [each.name for each in found] == list(DIVERGENCES)
    for each in found:
        expected = variational_bound(DIVERGENCES[each.name], sides[0], sides[1], score_limit=1.5)
        assert each.bound.value == pytest.approx(float(expected), abs=1e-12)
        assert each.plug_in >= 0.0


def test_where_nothing_is_told_apart_all_estimates_are_zero() -> None:
    found = cross_fitted_estimates(np.zeros(6), np.zeros(6), range(6))

    for each in found:
        assert (each.bound.value, each.bound.low, each.bound.high) == pytest.approx((0, 0, 0))
        assert each.plug_in == pytest.approx(0.0)


def test_unpaired_sides_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 demonstrations and 2 rollouts"):
        cross_fitted_estimates(np.zeros(3), np.zeros(2), range(3))


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_every_divergence_has_its_metrics_and_says_of_which_kind_they_are(name: str) -> None:
    assert "lower bound" in METRICS[f"eval/bound_{name}"].meaning
    assert "biased" in METRICS[f"eval/plug_in_{name}"].meaning
    assert DIVERGENCES[name].title in METRICS[f"eval/bound_{name}"].title


def test_the_interval_of_a_mean_counts_answers_to_one_prompt_together() -> None:
    terms = np.array([1.0, 2.0, 4.0, 9.0])
    apart = mean_interval(terms, range(4))
    doubled = mean_interval(np.repeat(terms, 2), np.repeat(np.arange(4), 2).tolist())

    assert apart.high - apart.value == pytest.approx(1.959964 * terms.std(ddof=1) / 2)
    assert (doubled.value, doubled.low) == pytest.approx((apart.value, apart.low))


def test_the_auc_is_that_of_all_pairs_within_each_half() -> None:
    rng = np.random.default_rng(2)
    data, rollouts = rng.integers(0, 4, 9).astype(float), rng.integers(0, 3, 9).astype(float)
    folds = [0, 1, 0, 0, 1, 1, 0, 0, 1]
    by_hand = []
    for fold in (0, 1):
        rows = [row for row, at in enumerate(folds) if at == fold]
        pairs = [(data[i], rollouts[j]) for i in rows for j in rows]
        by_hand += [np.mean([1.0 if a > b else 0.5 * (a == b) for a, b in pairs])] * len(rows)

    assert auc_interval(data, rollouts, folds, range(9)).value == pytest.approx(np.mean(by_hand))
    weights = torch.full((9,), 1 / 9, dtype=torch.float64)
    library = auc(*(WeightedScores(torch.from_numpy(s), weights) for s in (data, rollouts)))
    assert auc_placements(data, rollouts)[0].mean() == pytest.approx(float(library))


def test_the_interval_of_the_auc_covers_the_true_one() -> None:
    """Normal scores one standard deviation apart: AUC = Phi(1/sqrt 2); nominal coverage 95 %."""
    rng, repeats, truth = np.random.default_rng(3), 400, 0.7602499389065233
    folds = [row % 2 for row in range(100)]
    hits = 0
    for _ in range(repeats):
        found = auc_interval(rng.normal(1, 1, 100), rng.normal(0, 1, 100), folds, range(100))
        hits += found.low <= truth <= found.high
    error = np.sqrt(0.95 * 0.05 / repeats)
    # Two points of coverage for the normal approximation at 50 answers a half, and 4 errors.
    assert hits / repeats >= 0.95 - 0.02 - 4 * error


def test_the_interval_of_the_auc_has_no_width_where_all_are_told_apart() -> None:
    found = auc_interval(np.arange(10) + 20.0, np.arange(10.0), [0, 1] * 5, range(10))

    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


def test_calibration_by_hand() -> None:
    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    data = np.array([logit(0.82), logit(0.88), logit(0.12)])
    rollouts = np.array([logit(0.84), logit(0.18), logit(0.12)])

    bins = calibration_bins(data, rollouts)

    assert [each.count for each in bins] == [3, 3]
    assert [each.mean_probability for each in bins] == pytest.approx([0.14, 2.54 / 3])
    assert [each.share_data for each in bins] == pytest.approx([1 / 3, 2 / 3])
    by_hand = (abs(0.14 - 1 / 3) + abs((0.82 + 0.88 + 0.84) / 3 - 2 / 3)) / 2
    assert calibration_error(bins) == pytest.approx(by_hand)
    assert mean_entropy(np.zeros(3)) == pytest.approx(np.log(2))
    assert mean_entropy(np.array([800.0, -800.0])) == pytest.approx(0.0)
