"""D13: the alpha family between its limits."""

import numpy as np
import pytest
import torch

from seqmatch.divergences import Divergence, get_divergence
from seqmatch.errors import ConfigError
from seqmatch.objectives.sequence_match import SequenceMatchConfig, divergence_of
from tests.unit.seqmatch.divergence_contract import slope

U = torch.logspace(-1.5, 1.5, 41, dtype=torch.float64)
X = torch.linspace(-0.4, 3.0, 35, dtype=torch.float64)
H = torch.linspace(-3, 3, 25, dtype=torch.float64)
ORDERS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0)


def functions(divergence: Divergence) -> dict[str, torch.Tensor]:
    """All that a divergence computes, at the same points."""
    return {
        "f": divergence.generator(U),
        "f'": divergence.generator_prime(U),
        "phi": divergence.phi(X),
        "phi'": divergence.phi_prime(X),
        "R": divergence.policy_reward(H),
    }


def alpha(order: float) -> Divergence:
    return get_divergence("alpha", order)


@pytest.mark.parametrize(("order", "limit"), [(0.0, "forward_kl"), (1.0, "reverse_kl")])
def test_the_limits_are_exact(order: float, limit: str) -> None:
    expected = functions(get_divergence(limit))

    for name, found in functions(alpha(order)).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-12, atol=1e-14)
    assert alpha(order).at_zero == get_divergence(limit).at_zero
    assert alpha(order).at_infinity == get_divergence(limit).at_infinity
    assert alpha(order).linear_below == pytest.approx(get_divergence(limit).linear_below)


@pytest.mark.parametrize(("order", "limit"), [(0.0, "forward_kl"), (1.0, "reverse_kl")])
@pytest.mark.parametrize("side", [-1, 1])
def test_d13_errors_near_the_limits_are_of_first_order(order: float, limit: str, side: int) -> None:
    """Ten times nearer is ten times better, down to 1e-8, where rounding would show."""
    expected = functions(get_divergence(limit))
    distances = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)

    for name in expected:
        errors = [
            float((functions(alpha(order + side * e))[name] - expected[name]).abs().max())
            for e in distances
        ]
        rates = np.array(errors) / np.array(distances)
        np.testing.assert_allclose(rates, rates[2], rtol=0.3)


@pytest.mark.parametrize("order", [-1e-6, 1e-12, 1e-6, 1 - 1e-6, 1 + 1e-12, 1 + 1e-6])
def test_near_the_limits_float32_keeps_its_precision(order: float) -> None:
    """Where (u^a - 1)/a taken literally would have nothing left of its seven digits."""
    w = torch.linspace(-30, 30, 122)
    member = alpha(order)

    for function in (member.generator_of_log_ratio, member.policy_reward, member.phi):
        found, exact = function(w).double(), function(w.double())
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=0.0)
        found, exact = slope(function, w).double(), slope(function, w.double())
        torch.testing.assert_close(found, exact, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize(
    ("order", "name", "factor"),
    [
        (0.5, "squared_hellinger", 2.0),
        (2.0, "chi_square_pearson", 0.5),
        (-1.0, "chi_square_neyman", 0.5),
    ],
)
def test_special_orders_are_multiples_of_the_named_divergences(
    order: float, name: str, factor: float
) -> None:
    """f = c g gives R = c R_g and phi(x) = c phi_g(x/c); Pearson's as far as u >= 0."""
    member, named = alpha(order), get_divergence(name)
    x = X[X < 0.99] if order == 2.0 else X

    torch.testing.assert_close(member.generator(U), factor * named.generator(U))
    torch.testing.assert_close(member.policy_reward(H), factor * named.policy_reward(H))
    torch.testing.assert_close(member.phi(x), factor * named.phi(x / factor))
    if order != 2.0:
        assert member.linear_below == pytest.approx(factor * named.linear_below)


@pytest.mark.parametrize("order", ORDERS)
def test_d13_the_conjugate_at_the_best_test_function_is_the_reward(order: float) -> None:
    """f_B*(T) = R(h) at T = f_B'(v), where f_B(v) = v f(1/v) is the member of order 1 - a.

    arXiv 2403.12017, equation 29, has the data over the model, so its conjugate is that of the
    generator in the other argument.
    """
    h = torch.linspace(-0.8, 0.8, 17, dtype=torch.float64)
    swapped = alpha(1.0 - order)

    best = swapped.generator_prime(h.exp())

    torch.testing.assert_close(swapped.conjugate(best), alpha(order).policy_reward(h))


@pytest.mark.parametrize("order", ORDERS)
def test_symmetric_at_one_half_only(order: float) -> None:
    """f_a(u) = u f_{1-a}(1/u): exchanging model and data is a -> 1 - a."""
    torch.testing.assert_close(alpha(order).generator(U), U * alpha(1.0 - order).generator(1 / U))
    assert alpha(order).is_symmetric == (order == 0.5)


@pytest.mark.parametrize("order", [1.2, 1.5, 2.0])
def test_beyond_order_one_phi_rises_to_its_bound_and_never_turns_down(order: float) -> None:
    member = alpha(order)
    x = torch.linspace(-2, 20, 221, dtype=torch.float64)

    assert (slope(member.phi, x) >= 0).all()
    assert float(member.phi(x)[-1]) == pytest.approx(1 / order, abs=0.02)


def test_order_belongs_to_the_family_alone() -> None:
    assert get_divergence("alpha") is get_divergence("alpha", 0.5)
    assert get_divergence("alpha", 0.3).order == 0.3
    assert get_divergence("forward_kl", 0.3) is get_divergence("forward_kl")


def test_sequence_match_minimises_the_member_of_its_order() -> None:
    config = SequenceMatchConfig(divergence="alpha", divergence_order=1.25)
    assert divergence_of(config).order == 1.25
    assert divergence_of(SequenceMatchConfig(divergence_order=1.25)).order is None


@pytest.mark.parametrize("order", [-1.01, 2.01, float("nan")])
def test_order_outside_the_range_is_refused(order: float) -> None:
    with pytest.raises(ConfigError, match="it is from -1 to 2"):
        get_divergence("alpha", order)
