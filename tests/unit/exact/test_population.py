"""Population objectives on small languages: two computations, and optima known in closed form."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from seqmatch.divergences import divergences_of, get_divergence
from seqmatch.exact.choices import ORACLE_OBJECTIVES, OracleObjective, get_oracle_objective
from seqmatch.exact.experiment import loss_match, optimum_of
from seqmatch.exact.languages import Language, State, complete_answers, get_language
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy, make_policy
from seqmatch.exact.population import population_of
from seqmatch.exact.results import OracleRequest
from seqmatch.exact.setting import Population, Setting
from tests.oracles.brute_force import law_of_answers, tempered
from tests.oracles.f_divergences import generator_prime
from tests.oracles.stationarity import data_measure, model_measure, reward, slope_of_phi

Array = npt.NDArray[np.float64]
VOCAB, LENGTH, DISCOUNT = 3, 3, 0.8
MATCHED = sorted(divergences_of("sequence_match"))


def _language(backspace: bool = False) -> Language:
    """Every answer over two letters has a probability of its own."""
    answers = list(complete_answers(VOCAB, LENGTH))
    shares = np.random.default_rng(3).dirichlet(np.full(len(answers), 2.0))
    law = dict(zip(answers, (shares / math.fsum(shares)).tolist(), strict=True))
    return Language(
        "any", "Any", "Any.", ("stop", "a", "b"), LENGTH, law, "tabular", backspace, 0.2, DISCOUNT
    )


def _population(key: str, setting: Setting, **settings: object) -> Population:
    return population_of(get_oracle_objective(key), setting, OracleRequest.model_validate(settings))


def _trained(key: str, setting: Setting, seed: int = 0, **settings: object) -> ExactPolicy:
    policy = make_policy(setting.chain, setting.language.policy, seed)
    optimum = optimum_of(_population(key, setting, **settings), policy)
    assert optimum.is_converged
    return policy


def _rows(policy: ExactPolicy, table: Tensor) -> Callable[[State], Array]:
    """A table over states and actions as the oracles take it, the stop token standing for all that
    the limit forces."""
    rows = table.detach().numpy()
    return lambda state: np.asarray(rows[policy.chain.index[state]], dtype=np.float64)


def _gradient(loss: Callable[[ExactPolicy], Tensor], policy: ExactPolicy) -> Tensor:
    gradients = torch.autograd.grad(loss(policy), list(policy.parameters()))
    return torch.cat([each.flatten() for each in gradients])


def _prices(name: str) -> tuple[float, float]:
    entry = get_divergence(name)
    return entry.at_zero, entry.at_infinity


@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize(
    ("key", "level"),
    [(key, "answers") for key in sorted(ORACLE_OBJECTIVES)]
    + [(f"exact:{name}", "occupancy") for name in sorted(divergences_of("exact"))],
)
def test_every_objective_matches_enumeration(key: str, level: str, backspace: bool) -> None:
    setting = Setting.of(_language(), backspace)
    policy = make_policy(setting.chain, "tabular", 0, scale=0.5)
    population = _population(key, setting, level=level, alpha=0.3)
    if population.loss(policy)(policy).isinf():  # a label that the demonstrator never gives there
        assert backspace
        assert level == "occupancy" or key.endswith(":token")
        name = key.split(":")[1]
        assert name == "fairl_original" or math.inf in _prices(name)
        return

    difference = loss_match(population, setting, policy, 0)

    assert difference is not None
    assert difference < 1e-10


@pytest.mark.parametrize(
    "weights",
    [
        {"forward_kl": 0.0, "reverse_kl": 0.0, "jensen_shannon": 0.7},
        {"forward_kl": 0.5, "reverse_kl": 0.3, "jensen_shannon": 0.2, "chi_square_mixture": 0.4},
        {"forward_kl": 0.1, "reverse_kl": 0.0, "backspace_calibration": 0.7},
    ],
)
def test_every_part_of_the_composite_matches_enumeration(weights: dict[str, float]) -> None:
    setting = Setting.of(_language(), True)
    policy = make_policy(setting.chain, "tabular", 0, scale=0.5)
    choice = OracleObjective("", "", "objective", "", {"kind": "composite", **weights})
    population = population_of(choice, setting, OracleRequest(alpha=0.3))

    difference = loss_match(population, setting, policy, 0)

    assert difference is not None
    assert difference < 1e-10


@pytest.mark.parametrize("name", MATCHED)
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_d7_the_optimum_of_sequence_match_is_the_stationary_point(name: str, alpha: float) -> None:
    language = _language()
    setting = Setting.of(language, False)
    policy = _trained(f"sequence_match:{name}", setting, alpha=alpha)
    logits, probabilities = _rows(policy, policy.logits()), _rows(policy, policy.log_probs().exp())

    def prime(u: Array) -> Array:
        return np.asarray(generator_prime(name, u), dtype=np.float64)

    data = data_measure(language.law, DISCOUNT)
    model = model_measure(probabilities, VOCAB, LENGTH, DISCOUNT)

    for place, p in data.items():
        r = alpha * reward(logits, place, VOCAB, LENGTH, DISCOUNT)
        if get_divergence(name).uses_mixture:
            wanted = p * (1 - r / 2) - model[place] * r / 2
        else:
            wanted = p * slope_of_phi(prime, r)
        assert model[place] == pytest.approx(wanted, abs=1e-8)


def test_d7_the_mixture_with_other_coefficients() -> None:
    language, alpha = _language(), 0.5
    setting = Setting.of(language, False)
    choice = get_oracle_objective("sequence_match:chi_square_mixture")
    settings = {**choice.settings, "mixture_data": 0.4, "mixture_model": 0.1}
    request = OracleRequest(alpha=alpha)
    changed = OracleObjective("", "", "objective", "", settings)
    population = population_of(changed, setting, request)
    policy = make_policy(setting.chain, "tabular", 0)
    assert optimum_of(population, policy).is_converged
    logits, probabilities = _rows(policy, policy.logits()), _rows(policy, policy.log_probs().exp())

    model = model_measure(probabilities, VOCAB, LENGTH, DISCOUNT)

    for place, p in data_measure(language.law, DISCOUNT).items():
        r = alpha * reward(logits, place, VOCAB, LENGTH, DISCOUNT)
        wanted = p * (1 - 2 * 0.4 * r) - model[place] * 2 * 0.1 * r
        assert model[place] == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("name", MATCHED)
def test_d6_small_alpha_adds_its_own_slope_to_discounted_likelihood(name: str) -> None:
    setting = Setting.of(_language(), False)
    policy = make_policy(setting.chain, "tabular", 5)
    divergence = get_divergence(name)

    def slope(other: ExactPolicy) -> Tensor:
        """sum of gamma^t d^2 / (2 f''(1)) and (1 - gamma) gamma^N V^2 / (2 f''(1)) at the end."""
        visits = setting.demonstrator.visits(DISCOUNT)
        values, logits = other.values(), other.logits()
        d = logits[visits.states, visits.labels] - DISCOUNT * values[visits.next_states]
        ends = (1 - DISCOUNT) * values.square()
        total = (visits.mass * d.square()).sum() + (visits.absorbed * ends).sum()
        if divergence.uses_mixture:
            return total / 4  # the other quarter is on the policy's own samples
        assert divergence.second_derivative is not None
        return total / (2 * divergence.second_derivative)

    def rate(alpha: float) -> Tensor:
        population = _population(f"sequence_match:{name}", setting, alpha=alpha)
        return (_gradient(population.loss(policy), policy) - likelihood) / alpha

    nll = _population("forward_kl_occupancy:gamma", setting)
    likelihood = _gradient(nll.loss(policy), policy)
    expected = _gradient(slope, policy)
    if divergence.uses_mixture:
        expected = expected + _own_slope(setting, policy)

    torch.testing.assert_close(rate(1e-5), expected, rtol=0, atol=1e-3)
    # And linearly so: half of alpha, half of what is left.
    far, near = rate(2e-3) - expected, rate(1e-3) - expected
    torch.testing.assert_close(far, 2 * near, rtol=0, atol=0.05 * float(far.abs().max()) + 1e-9)


def _own_slope(setting: Setting, policy: ExactPolicy) -> Tensor:
    """The same with 1/4 along the policy's own answers, their probabilities held."""
    probabilities = _rows(policy, policy.log_probs().exp())
    law = law_of_answers(probabilities, VOCAB, LENGTH)

    def along(other: ExactPolicy) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        values, logits, index = other.values(), other.logits(), other.chain.index
        for answer, probability in law.items():
            for time, token in enumerate(answer):
                after = values[index[answer[: time + 1]]]
                d = logits[index[answer[:time]], token] - DISCOUNT * after
                total = total + probability * DISCOUNT**time * d.square() / 4
            ends = (1 - DISCOUNT) * values[index[answer]].square() / 4
            total = total + probability * DISCOUNT ** len(answer) * ends
        return total

    return _gradient(along, policy)


@pytest.mark.parametrize("name", MATCHED)
def test_at_small_alpha_every_optimum_is_near_that_of_likelihood(name: str) -> None:
    setting = Setting.of(get_language("two_modes"), False)
    start = output_law(setting.chain, _trained("forward_kl_occupancy:gamma", setting).log_probs())

    def away(alpha: float) -> float:
        policy = _trained(f"sequence_match:{name}", setting, alpha=alpha)
        law = output_law(setting.chain, policy.log_probs())
        return float((law - start).detach().abs().sum())

    # Linear in alpha, so that the choice of phi is an effect of that order.
    assert away(2e-4) / away(1e-4) == pytest.approx(2.0, abs=0.02)


def test_likelihood_reaches_the_data_and_gem_its_power() -> None:
    language = _language()
    setting = Setting.of(language, False)
    data = setting.demonstrator.probs().numpy()

    sft, gem = (_trained(key, setting).log_probs().detach().exp() for key in ("sft", "gem"))

    for state in (0, 2, 3):
        np.testing.assert_allclose(sft[state], data[state], atol=1e-8)
        np.testing.assert_allclose(gem[state], tempered(data[state], 0.7), atol=1e-8)


def test_dft_gives_each_state_its_most_frequent_token() -> None:
    setting = Setting.of(_language(), False)
    data = setting.demonstrator.probs()

    policy = _trained("dft", setting)

    probs = policy.log_probs().detach().exp()
    for state in (0, 2, 3):
        assert probs[state].max() > 1 - 1e-6
        assert probs[state].argmax() == data[state].argmax()


@pytest.mark.parametrize(
    ("key", "level", "divergence"),
    [
        ("forward_kl_occupancy:gamma", "occupancy", "exact:forward_kl"),
        ("sft", "answers", "exact:forward_kl"),
    ],
)
def test_d10_forward_kl_is_likelihood_up_to_a_constant(
    key: str, level: str, divergence: str
) -> None:
    setting = Setting.of(_language(), False)
    likelihood = _population(key, setting)
    exact = _population(divergence, setting, level=level)
    differences = []
    for seed in range(2):
        policy = make_policy(setting.chain, "tabular", seed)
        one, other = likelihood.loss(policy), exact.loss(policy)
        torch.testing.assert_close(
            _gradient(one, policy), _gradient(other, policy), rtol=0, atol=1e-12
        )
        differences.append(float((one(policy) - other(policy)).detach()))
    assert differences[0] == pytest.approx(differences[1], abs=1e-12)


def _policy_gradient(
    setting: Setting, policy: ExactPolicy, reward_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """The gradient of E_model[R(h)] with the rewards of whole answers held, h = log data/model."""
    log_ratio = setting.law.log() - output_law(setting.chain, policy.log_probs()).log()
    held = reward_of(log_ratio.detach())
    return _gradient(lambda p: (output_law(p.chain, p.log_probs()) * held).sum(), policy)


@pytest.mark.parametrize("name", sorted(divergences_of("exact")))
def test_d11_the_policy_reward_gives_minus_the_gradient_of_each_divergence(name: str) -> None:
    setting = Setting.of(_language(), False)
    policy = make_policy(setting.chain, "tabular", 2)
    exact = _gradient(_population(f"exact:{name}", setting).loss(policy), policy)

    ascent = _policy_gradient(setting, policy, get_divergence(name).policy_reward)

    torch.testing.assert_close(ascent, -exact, rtol=0, atol=1e-12)


def test_d14_a_step_on_reverse_kl_lowers_it_and_with_the_printed_sign_raises_it() -> None:
    setting = Setting.of(_language(), False)
    population = _population("exact:reverse_kl", setting)

    def after(sign: float) -> float:
        policy = make_policy(setting.chain, "tabular", 2)
        # Rightly the policy maximises E_model[log D - log(1 - D)] = E_model[h].
        step = sign * 0.1 * _policy_gradient(setting, policy, lambda h: h)
        with torch.no_grad():
            for each in policy.parameters():
                each.add_(step.view_as(each))
        return float(population.loss(policy)(policy).detach())

    before = after(0.0)
    assert after(+1.0) < before < after(-1.0)


@pytest.mark.parametrize("order", [1.0 - 1e-6, 1.0])
def test_d13_alpha_divergence_near_one_is_reverse_kl(order: float) -> None:
    setting = Setting.of(_language(), False)
    policy = make_policy(setting.chain, "tabular", 2)
    reverse = _population("exact:reverse_kl", setting)
    alpha = _population("exact:alpha", setting, divergence_order=order)

    difference = _gradient(alpha.loss(policy), policy) - _gradient(reverse.loss(policy), policy)

    assert difference.abs().max() <= 10 * abs(1.0 - order) + 1e-12
