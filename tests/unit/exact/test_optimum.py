"""The optimiser of small policies, on losses whose optimum is known in closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from seqmatch.exact.optimum import Interrupted, minimise, minimise_in_rounds


class _Point(nn.Module):
    def __init__(self, *values: float) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def test_cross_entropy_ends_at_the_target_to_the_last_digits() -> None:
    target = torch.tensor([0.7, 0.2, 0.0999, 0.0001], dtype=torch.float64)
    point = _Point(3.0, -2.0, 0.5, 1.0)

    found = minimise(point, lambda: -(target * point.at.log_softmax(0)).sum(), lambda: True)

    assert found.is_converged
    torch.testing.assert_close(point.at.detach().softmax(0), target, rtol=0, atol=1e-9)


def test_directions_without_curvature_stay_where_they_started() -> None:
    point = _Point(4.0, 1.0)

    minimise(point, lambda: (point.at[0] - 2.0) ** 2, lambda: True)

    assert point.at.tolist() == pytest.approx([2.0, 1.0], abs=1e-10)


def test_rounds_reach_the_fixed_point_and_not_the_minimum_of_both_roles() -> None:
    # theta = argmin (theta - c/2 - 1)^2 at c = theta is 2; the joint minimum would be elsewhere.
    point = _Point(-5.0)

    def hold() -> Callable[[], Tensor]:
        held = point.at.detach().clone()
        return lambda: (point.at - held / 2 - 1.0).square().sum() + point.at.square().sum() * 0.0

    found = minimise_in_rounds(point, hold, lambda: True)

    assert found.is_converged
    assert found.num_rounds > 2
    assert point.at.tolist() == pytest.approx([2.0], abs=1e-8)


def test_a_watcher_can_stop_it() -> None:
    point = _Point(*range(30))
    asked: list[None] = []

    def tell() -> bool:
        asked.append(None)
        return False

    with pytest.raises(Interrupted):
        minimise(point, lambda: (point.at.exp() - 3.0).square().sum(), tell)
    assert len(asked) == 1
