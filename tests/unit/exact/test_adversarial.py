"""Adversarial imitation with an exact discriminator: gradients, signs, and runs that lower D."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from seqmatch.divergences import divergences_of
from seqmatch.exact.adversarial import Adversary, all_answers, limited_square_potential
from seqmatch.exact.choices import AdversarialLevel, get_oracle_objective
from seqmatch.exact.experiment import run_experiment
from seqmatch.exact.languages import Language, State, complete_answers
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy, make_policy
from seqmatch.exact.population import population_of
from seqmatch.exact.results import OraclePiece, OracleRequest, OracleRun
from seqmatch.exact.setting import Population, Setting
from seqmatch.exact.trajectories import WeightedTrajectories, values_along
from seqmatch.intervals import mean_with_interval
from seqmatch.policy_gradient import (
    FAIRL_ORIGINAL,
    Reward,
    RewardLevel,
    answer_returns,
    fairl_original,
    reinforce_surrogate,
    reward_function,
)
from tests.oracles.brute_force import law_of_answers
from tests.oracles.f_divergences import divergence
from tests.oracles.stationarity import data_measure, model_measure

_Place = TypeVar("_Place")
Array = npt.NDArray[np.float64]
VOCAB, LENGTH, DISCOUNT = 3, 3, 0.8
STEP = 1e-5
LEVELS: tuple[AdversarialLevel, ...] = ("token", "trajectory")
ADVERSARIAL = sorted(divergences_of("adversarial"))


def _setting() -> Setting:
    """Every answer over two letters has a probability of its own."""
    answers = list(complete_answers(VOCAB, LENGTH))
    shares = np.random.default_rng(5).dirichlet(np.full(len(answers), 2.0))
    law = dict(zip(answers, (shares / shares.sum()).tolist(), strict=True))
    language = Language(
        "any", "Any", "Any.", ("stop", "a", "b"), LENGTH, law, "tabular", False, 0.0, DISCOUNT
    )
    return Setting.of(language, False)


SETTING = _setting()


def _policy(seed: int = 2) -> ExactPolicy:
    return make_policy(SETTING.chain, "tabular", seed)


def _adversary(level: AdversarialLevel, reward: Reward) -> Adversary:
    return Adversary(SETTING.demonstrator.occupancy(), SETTING.law, DISCOUNT, level, reward)


def _population(reward: str, level: str) -> Population:
    choice = get_oracle_objective(f"adversarial:{reward}:{level}")
    return population_of(choice, SETTING, OracleRequest())


def _gradient(loss: Tensor, policy: ExactPolicy) -> Tensor:
    gradients = torch.autograd.grad(loss, list(policy.parameters()), materialize_grads=True)
    return torch.cat([each.flatten() for each in gradients])


def _moved(policy: ExactPolicy, step: Tensor) -> ExactPolicy:
    """The policy with the step added to its parameters."""
    moved, offset = _policy(), 0
    with torch.no_grad():
        for each, start in zip(moved.parameters(), policy.parameters(), strict=True):
            each.copy_(start + step[offset : offset + each.numel()].view_as(each))
            offset += each.numel()
    return moved


def _by_definition(name: str, level: AdversarialLevel, policy: ExactPolicy) -> float:
    """The divergence from probabilities alone, by the oracles."""
    table = policy.log_probs().detach().exp().numpy()

    def probabilities(state: State) -> Array:
        return np.asarray(table[policy.chain.index[state]], dtype=np.float64)

    law = SETTING.language.law
    if level == "trajectory":
        return _between(name, law, law_of_answers(probabilities, VOCAB, LENGTH))
    model = model_measure(probabilities, VOCAB, LENGTH, DISCOUNT)
    return _between(name, data_measure(law, DISCOUNT), model)


def _between(name: str, data: Mapping[_Place, float], model: Mapping[_Place, float]) -> float:
    p, q = (np.array([each[place] for place in data]) for each in (data, model))
    return divergence(name, p, q)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_d11_the_policy_gradient_is_minus_that_of_the_divergence(
    name: str, level: AdversarialLevel
) -> None:
    policy = _policy()

    ascent = -_gradient(_adversary(level, reward_function(name)).surrogate(policy), policy)

    for place in range(len(ascent)):
        step = torch.zeros_like(ascent)
        step[place] = STEP
        ends = [_by_definition(name, level, _moved(policy, sign * step)) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * STEP)
        assert float(ascent[place]) == pytest.approx(-slope, abs=1e-8)


def _alpha_half(v: Tensor) -> Tensor:
    return (v.sqrt() - v / 2 - 0.5) / -0.25


PRINTED: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": lambda v: -v.log(),
    "jensen_shannon": lambda v: v * v.log() - (v + 1) * ((v + 1) / 2).log(),
    "forward_kl": lambda v: v * v.log(),
    "alpha": _alpha_half,
}
"""f(v), v = data over model, as arXiv 2403.12017 has them."""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", list(PRINTED))
def test_d11_minus_the_generator_as_reward_is_right_for_reverse_kl_alone(
    name: str, level: AdversarialLevel
) -> None:
    policy = _policy()
    right = _gradient(_adversary(level, reward_function(name)).surrogate(policy), policy)
    naive = _adversary(level, lambda h: -PRINTED[name](h.exp()))

    difference = (_gradient(naive.surrogate(policy), policy) - right).abs().max()

    if name == "reverse_kl":
        assert difference < 1e-13
    else:
        assert difference > 0.02


@pytest.mark.parametrize("level", LEVELS)
def test_the_original_reward_of_fairl_is_the_naive_one(level: AdversarialLevel) -> None:
    policy = _policy()
    naive = _adversary(level, lambda h: -PRINTED["forward_kl"](h.exp())).surrogate(policy)
    original = _adversary(level, fairl_original).surrogate(policy)

    torch.testing.assert_close(
        _gradient(naive, policy), _gradient(original, policy), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("level", LEVELS)
def test_d14_a_step_lowers_reverse_kl_and_with_the_printed_sign_raises_it(
    level: AdversarialLevel,
) -> None:
    policy = _policy()

    def after(reward: Reward) -> float:
        step = -0.1 * _gradient(_adversary(level, reward).surrogate(policy), policy)
        return _by_definition("reverse_kl", level, _moved(policy, step))

    # Equations 17 and 19 minimise E[log D - log(1 - D)] = E[h].
    before = _by_definition("reverse_kl", level, policy)
    assert after(lambda h: h) < before < after(lambda h: -h)


@pytest.mark.parametrize("name", ["jensen_shannon", "forward_kl", "reverse_kl"])
def test_d12_increments_have_the_gradient_of_the_trajectory(name: str) -> None:
    policy = _policy()
    every = all_answers(SETTING.chain)
    law = output_law(SETTING.chain, policy.log_probs().detach())
    answers = WeightedTrajectories(every.states, every.labels, every.num_actions, law)
    model = state_action_occupancy(SETTING.chain, policy.log_probs().detach(), DISCOUNT)
    log_ratio = SETTING.demonstrator.occupancy().log() - model.log()
    h = log_ratio[answers.states[:, :-1], answers.labels]

    def gradient(level: RewardLevel) -> Tensor:
        returns = answer_returns(h, answers.is_action, reward_function(name), level, DISCOUNT)
        return _gradient(reinforce_surrogate(values_along(policy, answers), returns), policy)

    torch.testing.assert_close(gradient("increments"), gradient("trajectory"), rtol=0, atol=1e-13)
    # And the discriminator of whole answers is the one of their last token.
    last = h[torch.arange(len(law)), answers.num_actions - 1]
    torch.testing.assert_close(last, SETTING.law.log() - law.log(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", LEVELS)
def test_the_original_reward_of_fairl_leaves_the_data(level: AdversarialLevel) -> None:
    at_data = _policy()
    entries = SETTING.demonstrator.probs()[SETTING.chain.exists].log()
    near = entries + 0.1 * torch.randn(len(entries), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        next(at_data.parameters()).copy_(near)

    def after(reward: str) -> float:
        gradient = _gradient(_population(reward, level).loss(at_data)(at_data), at_data)
        return _by_definition("forward_kl", level, _moved(at_data, -0.1 * gradient))

    before = _by_definition("forward_kl", level, at_data)
    assert after("forward_kl") < before < after(FAIRL_ORIGINAL)


def test_the_potential_of_the_original_reward_has_it_as_slope_on_both_sides_of_the_limit() -> None:
    p = torch.tensor([0.5, 0.3, 0.1, 0.0], dtype=torch.float64)
    q = torch.tensor([0.01, 0.29, 0.5, 0.2], dtype=torch.float64, requires_grad=True)

    (slope,) = torch.autograd.grad(limited_square_potential(p, q, 1.5), q)

    h = (p / q.detach()).log().clamp(-1.5, 1.5)
    torch.testing.assert_close(slope, h * h.exp())
    inside = limited_square_potential(p[:3], q[:3], 100.0)
    expected = -(p[:3] * (p[:3] / q[:3]).log().square()).sum() / 2
    assert inside.item() == pytest.approx(expected.item())


def _runs(objectives: list[str], **settings: object) -> list[OracleRun]:
    pieces: list[OraclePiece] = []

    def tell(piece: OraclePiece) -> bool:
        pieces.append(piece)
        return True

    request = OracleRequest.model_validate({"objectives": objectives, **settings})
    run_experiment(request, tell)
    return [piece.run for piece in pieces if piece.run is not None]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["jensen_shannon", "reverse_kl", "forward_kl", "alpha"])
def test_each_lowers_its_own_divergence_from_the_start_of_supervised_fine_tuning(
    name: str, level: AdversarialLevel
) -> None:
    runs = _runs([f"adversarial:{name}:{level}"], seeds=[0, 1, 2])

    gains = []
    for run in runs:
        assert run.is_converged
        assert run.loss_match is not None
        assert run.loss_match < 1e-12
        assert run.own_divergence_at_start is not None
        assert run.own_divergence is not None
        gains.append(run.own_divergence_at_start - run.own_divergence)
    mean, half_width = mean_with_interval(gains)
    assert half_width is not None
    assert min(gains) > 0
    assert mean > half_width


def test_with_backspace_too() -> None:
    (run,) = _runs(["adversarial:jensen_shannon:token"], language="trap", seeds=[0])

    assert run.is_converged
    assert run.own_divergence_at_start is not None
    assert run.own_divergence is not None
    assert run.own_divergence < run.own_divergence_at_start
    assert run.off_data_probability_masked is not None
    assert run.off_data_probability < run.off_data_probability_masked


def test_other_objectives_have_no_start_of_their_own() -> None:
    (run,) = _runs(["sft"], seeds=[0])
    assert run.own_divergence_at_start is None
    assert run.own_divergence is None
