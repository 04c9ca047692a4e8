"""Gradient penalties against finite differences, interpolation, spectral norm and gating."""

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.discriminators import (
    Discriminator,
    gradient_penalty,
    interpolated,
    may_update,
    r1_penalty,
)


@pytest.fixture
def network() -> Discriminator:
    """In float64, with a last layer that is not 0."""
    made = Discriminator(3, 2, width=7, seed=1).double()
    with torch.no_grad():
        made.last.weight.normal_(generator=torch.Generator().manual_seed(3))
    return made


def embedded(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, 5, generator=generator, dtype=torch.float64)


def slopes(network: Discriminator, place: Tensor) -> np.ndarray:
    """The gradient of each score by central differences."""
    step = 1e-6
    found = np.zeros(place.shape)
    with torch.no_grad():
        for at in range(place.shape[1]):
            ahead, behind = place.clone(), place.clone()
            ahead[:, at] += step
            behind[:, at] -= step
            found[:, at] = (network.score(ahead) - network.score(behind)).numpy() / (2 * step)
    return found


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_gradient_penalty_is_that_of_finite_differences(
    network: Discriminator, target: float
) -> None:
    place = embedded()

    penalty = gradient_penalty(network.score, place, target=target)

    norms = np.linalg.norm(slopes(network, place), axis=1)
    assert penalty.item() == pytest.approx(np.mean((norms - target) ** 2), rel=1e-7)


def test_r1_is_that_of_finite_differences(network: Discriminator) -> None:
    place = embedded()

    penalty = r1_penalty(network.score, place)

    assert penalty.item() == pytest.approx(
        np.mean(np.sum(slopes(network, place) ** 2, axis=1)) / 2, rel=1e-7
    )


@pytest.mark.parametrize("penalty", [gradient_penalty, r1_penalty])
def test_penalties_train_the_network_and_leave_the_place_alone(
    network: Discriminator, penalty: object
) -> None:
    place = embedded().requires_grad_()
    weight = network.first.weight
    assert callable(penalty)

    penalty(network.score, place).backward()

    # Of the first layer's weight, once more by finite differences.
    assert place.grad is None
    assert weight.grad is not None
    step = 1e-6
    values = []
    for change in (step, -step):
        with torch.no_grad():
            weight[0, 0] += change
        values.append(penalty(network.score, place).item())
        with torch.no_grad():
            weight[0, 0] -= change
    assert weight.grad[0, 0].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_penalty_of_a_constant_has_a_finite_gradient() -> None:
    """A new discriminator is 0 everywhere, so its gradient norm is too."""
    network = Discriminator(3, 2, width=7)

    gradient_penalty(network.score, embedded().float()).backward()  # type: ignore[no-untyped-call]

    gradient = network.last.weight.grad
    assert gradient is not None
    assert bool(torch.isfinite(gradient).all())


def test_interpolated_pairs_lie_between_one_of_each_side() -> None:
    data, rollouts = torch.full((4, 2), 1.0), torch.full((6, 2), 3.0)

    found = interpolated(data, rollouts, torch.Generator().manual_seed(0))

    assert found.shape == (4, 2)
    assert torch.equal(found[:, 0], found[:, 1]), "one share for a whole pair"
    assert bool(((found > 1.0) & (found < 3.0)).all())
    again = interpolated(data, rollouts, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)


def test_spectral_norm_bounds_the_slope_of_the_score() -> None:
    network = Discriminator(6, 4, width=16, has_spectral_norm=True, seed=3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "original" in name:
                parameter.mul_(50.0)
    generator = torch.Generator().manual_seed(4)
    one, other = torch.randn(2, 200, 10, generator=generator)
    for _ in range(200):  # each pass improves the estimate of the largest singular value
        network.score(one[:1])
    network.eval()

    with torch.no_grad():
        rise = (network.score(one) - network.score(other)).abs()

    assert bool((rise <= (one - other).norm(dim=1) * (1 + 1e-4)).all())


@pytest.mark.parametrize(("accuracy", "is_allowed"), [(0.5, True), (0.85, True), (0.9, False)])
def test_updates_are_left_out_where_too_much_is_told_apart(
    accuracy: float, is_allowed: bool
) -> None:
    assert may_update(accuracy) is is_allowed
