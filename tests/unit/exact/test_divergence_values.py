"""Exact divergences against their definitions, for every registered one."""

import numpy as np
import pytest
import torch

from seqmatch.divergences import DIVERGENCES
from seqmatch.errors import UnknownNameError
from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.divergence_values import (
    divergence_value,
    occupancy_divergence,
    trajectory_divergence,
)
from seqmatch.exact.languages import get_language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import data_law, output_law
from seqmatch.exact.policies import make_policy
from seqmatch.exact.token_chain import TokenChain
from tests.oracles import f_divergences

P, Q = torch.from_numpy(f_divergences.P), torch.from_numpy(f_divergences.Q)


@pytest.mark.parametrize(("name", "value"), f_divergences.FIXTURE.items())
def test_values_of_the_fixture(name: str, value: float) -> None:
    assert float(divergence_value(name, P, Q)) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_values_equal_the_definition(name: str) -> None:
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 4.0):
        p, q = (np.exp(spread * rng.normal(size=9)) for _ in range(2))
        p, q = p / p.sum(), q / q.sum()

        value = divergence_value(name, torch.from_numpy(p), torch.from_numpy(q))

        assert float(value) == pytest.approx(f_divergences.divergence(name, p, q), rel=1e-9)
        assert float(divergence_value(name, torch.from_numpy(p), torch.from_numpy(p))) == 0.0


@pytest.mark.parametrize("order", [-1.0, -0.3, 0.0, 0.01, 0.5, 0.99, 1.0, 1.7, 2.0])
def test_alpha_family_at_every_order(order: float) -> None:
    expected = f_divergences.divergence("alpha", P.numpy(), Q.numpy(), order)
    assert float(divergence_value("alpha", P, Q, order)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "order"),
    [(name, None) for name in DIVERGENCES]
    + [(n, a) for n, d in DIVERGENCES.items() if d.has_order for a in (-0.5, 0.0, 0.3, 1.0, 1.5)],
)
def test_points_that_only_one_side_has_are_the_limit(name: str, order: float | None) -> None:
    """Against the definition at a probability that goes to 0: it converges, or grows for ever."""
    full = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    lacking = torch.tensor([0.6, 0.4, 0.0], dtype=torch.float64)
    orders = () if order is None else (order,)

    for exchanged in (False, True):

        def at(tiny: float, exchanged: bool = exchanged) -> float:
            almost = np.array([0.6, 0.4 - tiny, tiny])
            pair = (almost, full.numpy()) if exchanged else (full.numpy(), almost)
            return f_divergences.divergence(name, *pair, *orders)

        pair = (lacking, full) if exchanged else (full, lacking)
        value = float(divergence_value(name, *pair, order))
        if np.isinf(value):
            assert at(1e-120) > at(1e-60) + 1.0
        else:
            assert value == pytest.approx(at(1e-120), abs=1e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    logits = torch.tensor([0.3, -0.4, 1.1], dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda each: divergence_value(name, P, each.softmax(dim=-1)), (logits,)
    )


def test_model_mass_outside_the_data_pulls_it_back_where_the_price_is_finite() -> None:
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    data = torch.tensor([0.7, 0.3, 0.0], dtype=torch.float64)

    value = divergence_value("forward_kl", data, logits.softmax(dim=-1))
    (gradient,) = torch.autograd.grad(value, logits)

    assert torch.allclose(gradient, logits.softmax(dim=-1).detach() - data)


def test_unknown_divergence_is_named() -> None:
    with pytest.raises(UnknownNameError, match="forward_kl"):
        divergence_value("forward_lk", P, Q)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_of_a_language_are_those_of_its_measures(name: str) -> None:
    language = get_language("two_modes")
    chain = TokenChain.of(language, False)
    log_probs = make_policy(chain, "by_position", seed=0).log_probs().detach()
    data = Demonstrator.of(language, chain).clean_occupancy()
    model = state_action_occupancy(chain, log_probs, 0.9)

    occupancy = occupancy_divergence(name, data, chain, log_probs, 0.9)
    answers = trajectory_divergence(name, language, chain, log_probs)

    here = chain.exists
    expected = f_divergences.divergence(name, data[here].numpy(), model[here].numpy())
    assert float(occupancy) == pytest.approx(expected, rel=1e-9)
    law = output_law(chain, log_probs).numpy()
    expected = f_divergences.divergence(name, data_law(chain, language).numpy(), law)
    assert float(answers) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("backspace", [False, True])
def test_d9_mixture_is_the_largest_value_over_rewards(backspace: bool) -> None:
    """D9 on occupancies: E_P[r - r^2/4] - E_Q[r + r^2/4] is 2 chi^2(P || M) at r*, else below."""
    language = get_language("two_modes")
    chain = TokenChain.of(language, backspace)
    p = Demonstrator.of(language, chain).occupancy()
    q = state_action_occupancy(chain, make_policy(chain, "tabular", 0).log_probs(), 0.9).detach()

    def dual(reward: torch.Tensor) -> float:
        return float((p * (reward - reward**2 / 4) - q * (reward + reward**2 / 4)).sum())

    best = torch.where(p + q > 0, 2 * (p - q) / (p + q), 0.0)
    value = float(divergence_value("chi_square_mixture", p, q))
    assert 0.0 < value == pytest.approx(dual(best), rel=1e-12)
    assert value <= 2.0
    for seed in range(5):
        other = best + 0.3 * torch.randn(best.shape, generator=torch.Generator().manual_seed(seed))
        assert dual(other) < value


def test_d10_forward_kl_of_occupancies_is_the_discounted_sum_over_states() -> None:
    """D10: KL(rho_data || rho_model) = sum_k gamma^k E_data[KL of the next token]."""
    language = get_language("addition_mod_4")
    chain = TokenChain.of(language, False)
    demonstrator = Demonstrator.of(language, chain)
    log_probs = make_policy(chain, "tabular", seed=0).log_probs().detach()
    visits = demonstrator.visits(language.discount)
    probs = demonstrator.probs()

    log_ratio = probs.log()[visits.states, visits.labels] - log_probs[visits.states, visits.labels]
    chain_rule = float((visits.mass * log_ratio).sum())

    data = demonstrator.clean_occupancy()
    value = occupancy_divergence("forward_kl", data, chain, log_probs, language.discount)
    assert float(value) == pytest.approx(chain_rule, rel=1e-12)
