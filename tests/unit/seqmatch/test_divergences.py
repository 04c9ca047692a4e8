"""Every registered divergence: its contract, and its values against tests/oracles."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.divergences import DIVERGENCES, Divergence, divergences_of, get_divergence
from seqmatch.errors import UnknownNameError
from tests.oracles import f_divergences
from tests.unit.seqmatch.divergence_contract import CHECKS, Check, scalar, slope, supremum_at

P, Q = torch.from_numpy(f_divergences.P), torch.from_numpy(f_divergences.Q)

H = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=torch.float64)
REWARD_FIXTURE = {
    # GAIL, FAIRL and the alpha family at 1/2 ("Hellinger") of the notes, and AIRL's h.
    "jensen_shannon": (-0.56621917, -0.37988549, 0.0, 0.62011451, 1.43378083),
    "forward_kl": (-0.86466472, -0.63212056, 0.0, 1.71828183, 6.3890561),
    "alpha": (-1.26424112, -0.78693868, 0.0, 1.29744254, 3.43656366),
    "reverse_kl": (-2.0, -1.0, 0.0, 1.0, 2.0),
}

ORDERS = (-1.0, 0.0, 1e-3, 0.3, 0.5, 0.9, 1.0, 1.1, 2.0)
MEMBERS = [
    *(entry for entry in DIVERGENCES.values() if not entry.has_order),
    *(get_divergence("alpha", order) for order in ORDERS),
]
"""Every entry, and the alpha family at orders on both sides of its limits."""

every = pytest.mark.parametrize(
    "divergence",
    MEMBERS,
    ids=lambda entry: entry.name if entry.order is None else f"{entry.name}-{entry.order:g}",
)
registered = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)

LOG_RATIOS = np.concatenate([np.linspace(-30, 30, 121), np.geomspace(1e-3, 1, 19)])
LOG_RATIOS = np.concatenate([LOG_RATIOS, -LOG_RATIOS])
LOG_RATIOS = LOG_RATIOS[LOG_RATIOS != 0].astype(np.float32)


def order_of(divergence: Divergence) -> float:
    return f_divergences.DEFAULT_ORDER if divergence.order is None else divergence.order


def assert_relative(found: Tensor, expected: f_divergences.Array) -> None:
    """Ten units of float32 at a condition number of 30, the largest |log u|."""
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.detach().double().numpy(), expected.astype(float), rtol=1e-5)


@every
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_d5_contract(check: Check, divergence: Divergence) -> None:
    check(divergence)


@every
def test_generator_and_slope_equal_the_oracles(divergence: Divergence) -> None:
    u = torch.logspace(-3, 3, 60, dtype=torch.float64)
    exact, order = u.numpy().astype(np.longdouble), order_of(divergence)

    values = f_divergences.generator(divergence.name, exact, order)
    slopes = f_divergences.generator_prime(divergence.name, exact, order)

    for found, expected in (
        (divergence.generator(u), values),
        (divergence.generator_prime(u), slopes),
    ):
        np.testing.assert_allclose(found.numpy(), expected.astype(float), rtol=1e-9, atol=1e-11)


@every
def test_generator_is_right_in_float32_with_its_gradient(divergence: Divergence) -> None:
    """|log u| <= 30; d/dw f(e^w) = u f'(u)."""
    u = np.exp(LOG_RATIOS.astype(np.longdouble))
    values = f_divergences.generator(divergence.name, u, order_of(divergence))
    slopes = u * f_divergences.generator_prime(divergence.name, u, order_of(divergence))
    w = torch.from_numpy(LOG_RATIOS)

    assert_relative(divergence.generator_of_log_ratio(w), values)
    assert_relative(slope(divergence.generator_of_log_ratio, w), slopes)


@every
def test_functions_of_the_ratio_itself_are_right_in_float32(divergence: Divergence) -> None:
    """f(u), its gradient f'(u), and f' given by the record, for u from e^-30 to e^30."""
    ratios = np.exp(LOG_RATIOS)
    exact, order = ratios.astype(np.longdouble), order_of(divergence)
    values = f_divergences.generator(divergence.name, exact, order)
    slopes = f_divergences.generator_prime(divergence.name, exact, order)
    u = torch.from_numpy(ratios)

    assert_relative(divergence.generator(u), values)
    assert_relative(slope(divergence.generator, u), slopes)
    assert_relative(divergence.generator_prime(u), slopes)
    assert_relative(divergence.r_star(u), divergence.r_star(u.double()).numpy())


@every
def test_reward_is_right_in_float32_with_its_gradient(divergence: Divergence) -> None:
    """R(h) = -f'(e^{-h}); its gradient is compared with the same function in float64."""
    h = torch.from_numpy(LOG_RATIOS)
    u = np.exp(-LOG_RATIOS.astype(np.longdouble))

    expected = -f_divergences.generator_prime(divergence.name, u, order_of(divergence))

    assert_relative(divergence.policy_reward(h), expected)
    if divergence.second_derivative is not None:
        exact = slope(divergence.policy_reward, h.double()).numpy()
        assert_relative(slope(divergence.policy_reward, h), exact)


@every
def test_reward_is_that_of_the_adversarial_paper(divergence: Divergence) -> None:
    """R = v f_B' - f_B of the generator in the other argument, from tests/oracles."""
    h = np.linspace(-5, 5, 40)

    expected = f_divergences.policy_reward(divergence.name, h, order_of(divergence))

    found = divergence.policy_reward(torch.from_numpy(h)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


@every
def test_phi_is_right_in_float32_with_its_gradient(divergence: Divergence) -> None:
    x = torch.from_numpy(LOG_RATIOS)
    functions: list[Callable[[Tensor], Tensor]] = [divergence.phi, divergence.conjugate]
    if divergence.uses_mixture:
        functions, x = [divergence.phi, lambda t: divergence.conjugate(t.clamp(max=0.9))], x

    for function in functions:
        assert_relative(function(x), function(x.double()).numpy())
        assert_relative(slope(function, x), slope(function, x.double()).numpy())


@registered
def test_phi_is_minus_the_oracles_conjugate_of_minus(divergence: Divergence) -> None:
    """D5, from the oracle's own generator."""
    if divergence.uses_mixture or divergence.second_derivative is None:
        pytest.skip("phi alone is not the conjugate, or is one on an interval only")
    low = max(divergence.linear_below, -4.0)
    rewards = torch.linspace(low, 4.0, 41, dtype=torch.float64)

    expected = f_divergences.minus_conjugate_of_minus(divergence.name, rewards.numpy())

    np.testing.assert_allclose(divergence.phi(rewards).numpy(), expected, atol=2e-8)


@every
def test_expected_generator_is_the_divergence_and_the_fixture(divergence: Divergence) -> None:
    found = float((P * divergence.generator(Q / P)).sum())

    oracle = f_divergences.divergence(divergence.name, P.numpy(), Q.numpy(), order_of(divergence))
    assert found == pytest.approx(oracle, rel=1e-9)
    if divergence is DIVERGENCES[divergence.name]:
        assert found == pytest.approx(f_divergences.FIXTURE[divergence.name], abs=1e-8)


@pytest.mark.parametrize("name", REWARD_FIXTURE)
def test_reward_fixture(name: str) -> None:
    found = get_divergence(name).policy_reward(H)

    np.testing.assert_allclose(found.numpy(), REWARD_FIXTURE[name], atol=1e-8)


def test_the_rest_of_the_numeric_fixture() -> None:
    """Figures of the fixture that no single entry gives: Jeffreys' divergence, chi2(P || M)."""
    values = {
        name: float((P * divergence.generator(Q / P)).sum())
        for name, divergence in DIVERGENCES.items()
    }

    assert values["forward_kl"] + values["reverse_kl"] == pytest.approx(1.0832200804, abs=1e-8)
    assert values["chi_square_mixture"] / 2 == pytest.approx(0.2333333333, abs=1e-8)


def test_d9_mixture_is_bounded_and_its_reward_is_the_closed_form() -> None:
    """D9 with the fixture: 2 chi2(P || M) at r = 2 (P - Q)/(P + Q), in [-2, 2]."""
    mixture = get_divergence("chi_square_mixture")

    rewards = mixture.r_star(Q / P)

    torch.testing.assert_close(rewards, 2 * (P - Q) / (P + Q))
    assert supremum_at(mixture, P, Q, rewards) == pytest.approx(0.4666666667, abs=1e-8)
    far = mixture.generator(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    assert float((far * torch.tensor([1 - 1e-9, 1e-9])).sum()) == pytest.approx(2.0, abs=1e-7)


def test_total_variation_is_left_out_of_sequence_match_with_its_reason() -> None:
    variation = DIVERGENCES["total_variation"]

    assert variation.families == {"adversarial", "exact"}
    assert "identity" in variation.left_out["sequence_match"]
    assert "total_variation" not in divergences_of("sequence_match")
    assert set(divergences_of("exact")) == set(DIVERGENCES)
    assert float(variation.phi(scalar(-7.0))) == -7.0


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as caught:
        get_divergence("chi")

    assert str(caught.value) == f"unknown divergence 'chi'; known: {', '.join(sorted(DIVERGENCES))}"


def test_light_modules_import_no_torch() -> None:
    names = "divergences objectives config seeding metrics types errors reporting base_models"
    imports = "; ".join(f"import seqmatch.{name}" for name in names.split())
    code = f"import sys; {imports}; print('torch' in sys.modules)"

    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "False"
