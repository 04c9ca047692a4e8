"""From h to the gradient of the policy step, through the objective's own loss (D11, D20)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from seqmatch.divergences import divergences_of
from seqmatch.exact.adversarial import all_answers
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy, make_policy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import WeightedTrajectories, values_along
from seqmatch.objectives import AdversarialConfig, PolicyStepConfig, objective_loss
from seqmatch.round_terms import advantages_of, adversarial_returns
from seqmatch.types import StateActionValues

DISCOUNT = 0.8
BARE = {"baseline": "none", "whiten": False, "kl_weight": 0.0}
"""A policy step that is nothing but the policy gradient."""
CHAIN = TokenChain.of_size(3, 3, False)
DATA, MODEL = make_policy(CHAIN, "tabular", 4), make_policy(CHAIN, "tabular", 9)


def _law(policy: ExactPolicy) -> Tensor:
    return output_law(CHAIN, policy.log_probs())


def _occupancy(policy: ExactPolicy) -> Tensor:
    return state_action_occupancy(CHAIN, policy.log_probs(), DISCOUNT)


def _own_answers() -> WeightedTrajectories:
    every = all_answers(CHAIN)
    law = _law(MODEL).detach()
    return WeightedTrajectories(every.states, every.labels, every.num_actions, law)


def _exact_h(answers: WeightedTrajectories, level: str) -> Tensor:
    """The log ratio of each action's occupancies, and at the stop that of whole answers."""
    at_tokens = (_occupancy(DATA).log() - _occupancy(MODEL).log()).detach()
    of_answers = (_law(DATA).log() - _law(MODEL).log()).detach()
    times = torch.arange(answers.labels.shape[1])
    is_last = times == answers.num_actions[:, None] - 1
    steps = DATA.log_probs().detach() - MODEL.log_probs().detach()
    visited = answers.states[:, : answers.labels.shape[1]], answers.labels
    if level == "token":
        return at_tokens[visited]
    if level == "trajectory":
        return of_answers[:, None].where(is_last, torch.nan).nan_to_num(0.0)
    return steps[visited].cumsum(dim=1)  # the log ratio of prefixes (D12)


def _gradient(loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(MODEL.parameters()), materialize_grads=True)
    return torch.cat([each.flatten() for each in gradients])


@pytest.mark.parametrize("level", ["token", "trajectory", "increments"])
@pytest.mark.parametrize("name", sorted(divergences_of("adversarial")))
def test_with_an_exact_h_the_step_descends_the_divergence(name: str, level: str) -> None:
    """The objective's loss on all answers has the divergence's own gradient, of its size."""
    config = AdversarialConfig.model_validate(
        {"divergence": name, "level": level, "discount": DISCOUNT, "policy_step": BARE}
    )
    answers = _own_answers()
    values = values_along(MODEL, answers)
    returns = adversarial_returns(_exact_h(answers, level), values.is_action, config)
    advantages = advantages_of(
        returns,
        values.is_action,
        torch.arange(len(returns)),
        config.policy_step,
        is_whole=level == "trajectory",
    )
    rollouts = replace(values, advantages=advantages, old_log_probs=-values.token_nll().detach())

    found = _gradient(objective_loss(config, values, rollouts, beta=0.0).loss)

    measure = _occupancy if level == "token" else _law
    exact = _gradient(divergence_value(name, measure(DATA).detach(), measure(MODEL)))
    torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-10)
    assert found.norm() > 1e-3


def _advantages(baseline: str, is_whole: bool, whiten: bool = False) -> Tensor:
    returns = torch.tensor([[3.0, 1.0], [1.0, 0.0], [5.0, 5.0], [5.0, 5.0]])
    if is_whole:
        returns = returns[:, :1].expand(-1, 2)
    settings = PolicyStepConfig.model_validate(
        {"baseline": baseline, "whiten": whiten, "answers_per_prompt": 2}
    )
    groups = torch.tensor([0, 0, 1, 1])
    return advantages_of(returns, IS_ACTION, groups, settings, is_whole=is_whole)


IS_ACTION = torch.tensor([[True, True], [True, False], [True, True], [True, True]])


def test_the_baselines_of_single_actions_and_of_whole_answers() -> None:
    by_action, whole = _advantages("rloo", False), _advantages("rloo", True)
    # At time 1 nobody else of the first prompt runs any more: nothing is taken off.
    assert by_action.tolist() == [[2.0, 1.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert whole.tolist() == [[2.0, 2.0], [-2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    normalised = _advantages("grpo", True)
    assert normalised[0, 0] == pytest.approx(1 / 2**0.5, rel=1e-3)
    assert normalised[2:].abs().max() == 0.0


def test_whitening_gives_actions_mean_0_and_deviation_1() -> None:
    found = _advantages("rloo", False, whiten=True)[IS_ACTION]
    assert found.mean() == pytest.approx(0.0, abs=1e-6)
    assert found.square().mean() == pytest.approx(1.0, rel=1e-5)


def test_the_loss_asks_for_what_it_needs() -> None:
    config = AdversarialConfig(policy_step=PolicyStepConfig(kl_weight=0.1))
    values = values_along(MODEL, _own_answers())
    told = replace(values, advantages=torch.zeros_like(values.chosen_q))
    told = replace(told, old_log_probs=torch.zeros_like(values.chosen_q))

    def loss(rollouts: StateActionValues | None) -> None:
        objective_loss(config, values, rollouts, beta=0.5)

    for missing in (None, values):
        with pytest.raises(ValueError, match="own answers with advantages"):
            loss(missing)
    with pytest.raises(ValueError, match="KL to the reference has a weight"):
        loss(told)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"reward": "fairl_original"}, "made for forward_kl"),
        ({"policy_step": {"baseline": "grpo"}}, "return of its own"),
        ({"discriminator": {"loss": "bradley_terry"}}, "compares whole answers"),
        (
            {
                "level": "trajectory",
                "divergence": "forward_kl",
                "discriminator": {"loss": "bradley_terry_deviations"},
            },
            "not a log ratio",
        ),
        (
            {"divergence": "total_variation", "discriminator": {"loss": "variational"}},
            "has a corner",
        ),
        ({"level": "trajectory", "discriminator": {"form": "airl"}}, "single action"),
        ({"discriminator": {"gradient_penalty": 1.0, "r1_penalty": 1.0}}, "one of them"),
        ({"rollouts": {"batch_size": 6}}, "no multiple"),
        ({"policy_step": {"answers_per_prompt": 1}}, "take at least 2"),
    ],
)
def test_combinations_without_meaning_are_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AdversarialConfig.model_validate(settings)
