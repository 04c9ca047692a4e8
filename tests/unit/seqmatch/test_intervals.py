"""The interval of a mean, against scipy's Student t."""

import numpy as np
import pytest
from scipy import stats

from seqmatch.intervals import mean_with_interval


@pytest.mark.parametrize("count", [2, 3, 5, 10, 31])
def test_the_interval_is_students(count: int) -> None:
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    half_width = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)

    mean, found = mean_with_interval(values.tolist())

    assert mean == pytest.approx(values.mean())
    assert found == pytest.approx(half_width, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert mean_with_interval([0.5]) == (0.5, None)


def test_many_values_are_taken_as_normal() -> None:
    assert mean_with_interval([0.0, 1.0] * 50)[1] == pytest.approx(1.96 * 0.5 / np.sqrt(99))


def test_the_squares_of_very_large_values_are_not_taken() -> None:
    mean, half_width = mean_with_interval([1e200, 3e200])
    assert mean == pytest.approx(2e200)
    assert half_width == pytest.approx(12.7062e200)
