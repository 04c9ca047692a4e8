"""What every divergence must satisfy by itself, as identities that need no oracle.

`CHECKS` is applied to each member of the registry, and to whatever a test registers beside them.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.divergences import Divergence
from tests.oracles import f_divergences

Check = Callable[[Divergence], None]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Adds an identity to the contract."""
    CHECKS.append(function)
    return function


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The derivative of an elementwise function, by autograd."""
    point = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(function(point).sum(), point)
    return found


def has_corner(divergence: Divergence) -> bool:
    """f has no slope at 1, so that phi' is 1 for a whole interval of rewards."""
    return divergence.second_derivative is None


def inside(divergence: Divergence) -> Tensor:
    """A grid of rewards where phi is not extended."""
    low, high = max(divergence.linear_below, -4.0), min(divergence.linear_above, 4.0)
    return torch.linspace(low, high, 41, dtype=torch.float64)


def supremum_at(divergence: Divergence, data: Tensor, model: Tensor, reward: Tensor) -> float:
    """E_P[phi(r)] - E_Q[r], with the mixture's square on rollouts where there is one."""
    value = (data * divergence.phi(reward)).sum() - (model * reward).sum()
    if divergence.uses_mixture:
        value = value - (model * reward.square()).sum() / 4
    return float(value)


@check
def generator_is_normalised_and_has_its_second_derivative(divergence: Divergence) -> None:
    one = scalar(1.0).requires_grad_()

    value = divergence.generator(one)
    (first,) = torch.autograd.grad(value, one, create_graph=True)

    assert value.item() == pytest.approx(0.0, abs=1e-14)
    assert first.item() == pytest.approx(0.0, abs=1e-14)
    assert divergence.generator_prime(one).item() == pytest.approx(0.0, abs=1e-14)
    if divergence.second_derivative is not None:
        (second,) = torch.autograd.grad(first, one)
        assert float(second) == pytest.approx(divergence.second_derivative, abs=1e-9)


@check
def generator_is_convex_and_never_negative(divergence: Divergence) -> None:
    u = torch.linspace(0.01, 20.0, 400, dtype=torch.float64)

    assert (divergence.generator(u) >= 0).all()
    assert (divergence.generator_prime(u).diff() >= -1e-12).all()


@check
def generator_and_its_derivative_belong_together(divergence: Divergence) -> None:
    u = torch.logspace(-6, 6, 121, dtype=torch.float64)
    u = u[u != 1]

    torch.testing.assert_close(
        slope(divergence.generator, u), divergence.generator_prime(u), rtol=1e-9, atol=1e-12
    )


@check
def limits_of_the_generator_are_those_of_the_record(divergence: Divergence) -> None:
    """f falls on u < 1 and f(u)/u rises on u > 1, so the ends bound them or grow without bound."""
    ends = torch.tensor([-600.0, 600.0], dtype=torch.float64)
    at_zero, growing = divergence.generator_of_log_ratio(ends)

    per_unit = growing / ends[1].exp()

    for limit, found in ((divergence.at_zero, at_zero), (divergence.at_infinity, per_unit)):
        if limit == math.inf:
            assert float(found) > 100
        else:
            # Near a limit of a family the approach is as slow as the limit is high.
            assert limit / 3 < float(found) <= limit * (1 + 1e-9)
            assert limit > 100 or float(found) == pytest.approx(limit, rel=1e-6)
    assert float(divergence.generator(scalar(0.0))) == divergence.at_zero


@check
def symmetric_where_it_says_so_and_only_there(divergence: Divergence) -> None:
    """D(P, Q) = D(Q, P) for all P, Q is f(u) = u f(1/u) for all u."""
    u = torch.logspace(-2, 2, 41, dtype=torch.float64)

    swapped = u * divergence.generator(1 / u)

    is_same = torch.allclose(divergence.generator(u), swapped, rtol=1e-9, atol=1e-12)
    assert is_same == divergence.is_symmetric


@check
def reward_of_the_policy_is_minus_the_slope(divergence: Divergence) -> None:
    """R(h) = v f_B'(v) - f_B(v) with f_B(v) = v f(1/v), which is -f'(e^{-h})."""
    h = torch.linspace(-4, 4, 33, dtype=torch.float64)
    h = h[h != 0]
    v = h.exp()

    def swapped(v: Tensor) -> Tensor:
        return v * divergence.generator(1 / v)

    expected = v * slope(swapped, v) - swapped(v)
    torch.testing.assert_close(divergence.policy_reward(h), expected, rtol=1e-8, atol=1e-9)
    minus_slope = -slope(divergence.generator, (-h).exp())
    torch.testing.assert_close(divergence.policy_reward(h), minus_slope, rtol=1e-8, atol=1e-9)


@check
def phi_is_normalised(divergence: Divergence) -> None:
    """D5."""
    zero = scalar(0.0).requires_grad_()

    value = divergence.phi(zero)
    (first,) = torch.autograd.grad(value, zero, create_graph=True)

    assert value.item() == 0.0
    assert first.item() == pytest.approx(1.0, abs=1e-14)
    assert divergence.phi_prime(zero).item() == pytest.approx(1.0, abs=1e-14)
    if divergence.second_derivative is not None and not divergence.uses_mixture:
        (second,) = torch.autograd.grad(first, zero)
        assert float(second) == pytest.approx(-1 / divergence.second_derivative, abs=1e-9)


@check
def phi_is_minus_the_conjugate_of_minus(divergence: Divergence) -> None:
    """D5: phi(x) = inf over u >= 0 of [x u + f(u)], found by a search."""
    if divergence.uses_mixture or has_corner(divergence):
        return
    rewards = inside(divergence)[1:]
    # Where the best u would be negative the literature's phi of Pearson's chi-square goes on.
    rewards = rewards[divergence.phi_prime(rewards) > 0]

    x = rewards.numpy()

    expected = f_divergences.lowest(
        lambda u: x * u + divergence.generator(torch.as_tensor(u)).numpy(), x.shape
    )

    np.testing.assert_allclose(divergence.phi(rewards).numpy(), expected, atol=2e-8)


@check
def conjugate_is_met_where_the_slope_is_its_argument(divergence: Divergence) -> None:
    """f*(f'(u)) = u f'(u) - f(u): the equality case of the conjugate."""
    if has_corner(divergence):
        return
    u = torch.linspace(0.3, 1.6, 27, dtype=torch.float64)
    prime = divergence.generator_prime(u)

    expected = u * prime - divergence.generator(u)

    torch.testing.assert_close(divergence.conjugate(prime), expected, rtol=1e-9, atol=1e-10)


@check
def slope_of_phi_at_the_best_reward_is_the_density_ratio(divergence: Divergence) -> None:
    """D5; with a mixture phi'(r) = u (1 + r/2)."""
    if has_corner(divergence):
        return
    ratios = torch.linspace(0.3, 1.6, 27, dtype=torch.float64)

    rewards = divergence.r_star(ratios)

    expected = ratios * (1 + rewards / 2) if divergence.uses_mixture else ratios
    torch.testing.assert_close(divergence.phi_prime(rewards), expected)
    if not divergence.uses_mixture:
        torch.testing.assert_close(rewards, -divergence.generator_prime(ratios))


@check
def best_reward_attains_the_divergence_and_no_other_does(divergence: Divergence) -> None:
    """D5, and D9 for the mixture; rewards that are moved by up to 0.05 stay in the domain."""
    model = torch.tensor([0.45, 0.3, 0.25], dtype=torch.float64)
    data = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    best = divergence.r_star(model / data)

    expected = float((data * divergence.generator(model / data)).sum())

    assert supremum_at(divergence, data, model, best) == pytest.approx(expected, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    if "sequence_match" in divergence.families:
        for _ in range(20):
            moved = best + 0.05 * torch.randn(3, dtype=torch.float64, generator=generator)
            assert supremum_at(divergence, data, model, moved) < expected


@check
def slope_of_phi_is_its_derivative_everywhere(divergence: Divergence) -> None:
    rewards = torch.linspace(-12, 12, 193, dtype=torch.float64)

    torch.testing.assert_close(slope(divergence.phi, rewards), divergence.phi_prime(rewards))
    grid = inside(divergence)[1:-1].requires_grad_()
    assert torch.autograd.gradcheck(divergence.phi, (grid,))


@check
def phi_is_concave_and_extended_linearly_with_its_slope(divergence: Divergence) -> None:
    """C1: value and slope agree at each edge; beyond it the slope is constant; nowhere convex."""
    rewards = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    assert (divergence.phi_prime(rewards).diff() <= 1e-12).all()
    for edge, outwards in ((divergence.linear_below, -1.0), (divergence.linear_above, 1.0)):
        if not math.isfinite(edge):
            continue
        at_edge, at_slope = divergence.phi(scalar(edge)), divergence.phi_prime(scalar(edge))
        for distance in (1e-9, 0.5, 3.0, 100.0):
            beyond = scalar(edge + outwards * distance)
            expected = float(at_edge + at_slope * outwards * distance)
            assert float(divergence.phi(beyond)) == pytest.approx(expected, rel=1e-9)
            assert float(divergence.phi_prime(beyond)) == float(at_slope)
        within = scalar(edge - outwards * 1e-7)
        change = float((divergence.phi(within) - at_edge) / (-outwards * 1e-7))
        assert change == pytest.approx(float(at_slope), rel=1e-4, abs=1e-5)


@check
def phi_is_finite_with_its_gradient_for_every_reward_in_float32(divergence: Divergence) -> None:
    rewards = torch.tensor([-1e6, -100.0, -30.0, -1.0, -0.5, 0.0, 0.5, 1.0, 30.0, 100.0, 1e6])

    values, slopes = divergence.phi(rewards), slope(divergence.phi, rewards)

    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()
    exact = divergence.phi_prime(rewards.double())
    torch.testing.assert_close(slopes.double(), exact, rtol=1e-5, atol=1e-12)


@check
def record_is_described(divergence: Divergence) -> None:
    texts = (divergence.title, divergence.sentence, divergence.formula, divergence.needs)
    more = (
        divergence.generator_formula,
        divergence.phi_formula,
        divergence.reward_formula,
        divergence.source,
    )

    assert all(text.strip() for text in (*texts, *more))
    assert divergence.sentence.endswith(".")
    assert divergence.families
    assert all(reason.strip() for reason in divergence.left_out.values())
    assert divergence.families.isdisjoint(divergence.left_out)
    assert ("sampled" in divergence.needs) == divergence.uses_mixture
    assert divergence.uses_mixture == (divergence.mixture_reward is not None)
    assert divergence.has_order == (divergence.order is not None)
