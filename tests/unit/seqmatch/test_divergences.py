"""The contract of every registered divergence; expected values come from tests/oracles."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from seqmatch.divergences import DIVERGENCES, Divergence, get_divergence
from seqmatch.errors import UnknownNameError
from tests.oracles import f_divergences

P = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
Q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
FIXTURE = {
    "forward_kl": 0.498223582,
    "reverse_kl": 0.5849964985,
    "jensen_shannon": 2 * 0.1251006059,
    "chi_square_pearson": 1.8666666667,
    "chi_square_neyman": 1.12,
    "chi_square_mixture": 0.4666666667,
    "squared_hellinger": 0.2599660815,
}
"""The numeric fixture of the method's notes, for P and Q above."""

every = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
plain = pytest.mark.parametrize(
    "divergence",
    [divergence for divergence in DIVERGENCES.values() if not divergence.uses_mixture],
    ids=[divergence.name for divergence in DIVERGENCES.values() if not divergence.uses_mixture],
)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def inside(divergence: Divergence) -> torch.Tensor:
    """A grid of rewards where phi is not extended."""
    low = max(divergence.linear_below, -4.0)
    return torch.linspace(low, 4.0, 41, dtype=torch.float64)


def best_value(divergence: Divergence, reward: torch.Tensor) -> float:
    """E_P[phi(r)] - E_Q[r], with the mixture's penalty where there is one."""
    value = (P * divergence.phi(reward)).sum() - (Q * reward).sum()
    if divergence.uses_mixture:
        value = value - (Q * reward.square()).sum() / 4
    return float(value)


@every
def test_generator_is_normalised_and_has_its_second_derivative(divergence: Divergence) -> None:
    one = scalar(1.0).requires_grad_()

    value = divergence.generator(one)
    (slope,) = torch.autograd.grad(value, one, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, one)

    assert value.item() == pytest.approx(0.0, abs=1e-14)
    assert slope.item() == pytest.approx(0.0, abs=1e-14)
    assert float(curvature) == pytest.approx(divergence.second_derivative, abs=1e-12)


@every
def test_generator_equals_the_oracles(divergence: Divergence) -> None:
    u = torch.logspace(-3, 3, 61, dtype=torch.float64)
    expected = f_divergences.generator(divergence.name, u.numpy())

    np.testing.assert_allclose(divergence.generator(u).numpy(), expected, rtol=1e-10, atol=1e-13)


@every
def test_expected_generator_is_the_divergence_and_the_fixture(divergence: Divergence) -> None:
    found = float((P * divergence.generator(Q / P)).sum())

    oracle = f_divergences.divergence(divergence.name, P.numpy(), Q.numpy())
    assert found == pytest.approx(oracle, abs=1e-12)
    assert found == pytest.approx(FIXTURE[divergence.name], abs=1e-8)


def test_the_rest_of_the_numeric_fixture() -> None:
    """Figures of the fixture that no single entry gives: Jeffreys' divergence, chi2(P || M)."""
    values = {
        name: float((P * divergence.generator(Q / P)).sum())
        for name, divergence in DIVERGENCES.items()
    }

    assert values["forward_kl"] + values["reverse_kl"] == pytest.approx(1.0832200804, abs=1e-8)
    assert values["chi_square_mixture"] / 2 == pytest.approx(0.2333333333, abs=1e-8)


@every
def test_d5_phi_is_normalised(divergence: Divergence) -> None:
    zero = scalar(0.0).requires_grad_()

    value = divergence.phi(zero)
    (slope,) = torch.autograd.grad(value, zero, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, zero)

    assert value.item() == 0.0
    assert slope.item() == pytest.approx(1.0, abs=1e-14)
    assert divergence.phi_prime(zero).item() == pytest.approx(1.0, abs=1e-14)
    if not divergence.uses_mixture:
        assert float(curvature) == pytest.approx(-1 / divergence.second_derivative, abs=1e-12)


@plain
def test_d5_phi_is_minus_the_conjugate_of_minus(divergence: Divergence) -> None:
    rewards = inside(divergence)

    found = divergence.phi(rewards)

    expected = [f_divergences.minus_conjugate_of_minus(divergence.name, float(x)) for x in rewards]
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-8)


@plain
def test_d5_slope_at_the_best_reward_is_the_density_ratio(divergence: Divergence) -> None:
    ratios = torch.linspace(0.3, 1.6, 27, dtype=torch.float64)
    grown = ratios.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(divergence.generator(grown).sum(), grown)

    rewards = divergence.r_star(ratios)

    torch.testing.assert_close(rewards, -slopes)
    torch.testing.assert_close(divergence.phi_prime(rewards), ratios)


@every
def test_d5_best_reward_attains_the_divergence_and_no_other_does(divergence: Divergence) -> None:
    """D5, and D9 for the mixture; rewards that are moved by up to 0.05 stay in the domain."""
    model = torch.tensor([0.45, 0.3, 0.25], dtype=torch.float64)
    data = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    best = divergence.r_star(model / data)

    def value(reward: torch.Tensor) -> float:
        total = (data * divergence.phi(reward)).sum() - (model * reward).sum()
        if divergence.uses_mixture:
            total = total - (model * reward.square()).sum() / 4
        return float(total)

    oracle = f_divergences.divergence(divergence.name, data.numpy(), model.numpy())
    assert value(best) == pytest.approx(oracle, abs=1e-12)
    for _ in range(20):
        assert value(best + 0.05 * torch.randn(3, dtype=torch.float64)) < oracle


def test_d9_mixture_is_bounded_and_its_reward_is_the_closed_form() -> None:
    """D9 with the fixture: 2 chi2(P || M) at r = 2 (P - Q)/(P + Q), in [-2, 2]."""
    mixture = get_divergence("chi_square_mixture")

    rewards = mixture.r_star(Q / P)

    torch.testing.assert_close(rewards, 2 * (P - Q) / (P + Q))
    assert best_value(mixture, rewards) == pytest.approx(0.4666666667, abs=1e-8)
    assert f_divergences.divergence(
        "chi_square_mixture", np.array([1 - 1e-9, 1e-9]), np.array([1e-9, 1 - 1e-9])
    ) == pytest.approx(2.0, abs=1e-7)


@every
def test_phi_prime_is_the_derivative_of_phi_everywhere(divergence: Divergence) -> None:
    rewards = torch.linspace(-12, 12, 193, dtype=torch.float64).requires_grad_()

    (slopes,) = torch.autograd.grad(divergence.phi(rewards).sum(), rewards)

    torch.testing.assert_close(slopes, divergence.phi_prime(rewards.detach()))
    assert torch.autograd.gradcheck(divergence.phi, (inside(divergence)[1:].requires_grad_(),))


@every
def test_phi_is_concave_and_extended_linearly_with_its_slope(divergence: Divergence) -> None:
    """C1: value and slope agree at the edge; below it the slope is constant; nowhere convex."""
    rewards = torch.linspace(-12, 12, 2001, dtype=torch.float64)
    assert (divergence.phi_prime(rewards).diff() <= 1e-12).all()
    edge = divergence.linear_below
    if edge == -math.inf:
        return
    assert divergence.domain_minimum < edge < 0

    at_edge, slope = divergence.phi(scalar(edge)), divergence.phi_prime(scalar(edge))

    for distance in (1e-9, 0.5, 3.0, 100.0):
        below = divergence.phi(scalar(edge - distance))
        assert float(below) == pytest.approx(float(at_edge - slope * distance), rel=1e-9)
        assert float(divergence.phi_prime(scalar(edge - distance))) == float(slope)
    above = divergence.phi(scalar(edge + 1e-7))
    assert float((above - at_edge) / 1e-7) == pytest.approx(float(slope), rel=1e-4)


@every
def test_phi_and_its_gradient_are_finite_in_float32(divergence: Divergence) -> None:
    rewards = torch.tensor([-1e6, -100.0, -30.0, -1.0, -0.5, 0.0, 1.0, 30.0, 100.0, 1e6])
    rewards.requires_grad_()

    values = divergence.phi(rewards)
    (slopes,) = torch.autograd.grad(values.sum(), rewards)

    assert values.dtype == torch.float32
    assert torch.isfinite(values).all()
    assert torch.isfinite(slopes).all()
    exact = divergence.phi_prime(rewards.detach().double())
    torch.testing.assert_close(slopes.double(), exact, rtol=1e-5, atol=1e-5)


@every
def test_entry_is_described(divergence: Divergence) -> None:
    texts = (divergence.title, divergence.sentence, divergence.formula, divergence.needs)
    more = (divergence.generator_formula, divergence.phi_formula, divergence.source)

    assert all(text.strip() for text in (*texts, *more))
    assert divergence.sentence.endswith(".")
    assert DIVERGENCES[divergence.name] is get_divergence(divergence.name)
    assert ("sampled" in divergence.needs) == divergence.uses_mixture


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown divergence 'chi'; known: chi_square"):
        get_divergence("chi")


def test_light_modules_import_no_torch() -> None:
    names = "divergences objectives config seeding metrics types errors reporting base_models"
    imports = "; ".join(f"import seqmatch.{name}" for name in names.split())
    code = f"import sys; {imports}; print('torch' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "False"
