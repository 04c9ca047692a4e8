"""Rounds of answers: how they are used, kept, and what other policies say of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmatch.corruption import clean_trajectory
from seqmatch.held_weights import HeldWeights
from seqmatch.objectives import RoundConfig
from seqmatch.objectives.dense_reward import implied_returns
from seqmatch.objectives.spin import spin_loss
from seqmatch.policy import Policy
from seqmatch.rounds import (
    Judges,
    Round,
    judged,
    log_probs_along,
    sample_round,
    with_demonstrations,
)
from seqmatch.run_flags import summary_of
from seqmatch.types import StateActionValues, TokenizedDemonstration
from tests.random_trajectories import rows as random_rows
from tests.random_trajectories import values as random_values
from tests.tiny_models import policy_of, tiny_llama

ROWS = [TokenizedDemonstration((1, at % 9), (3, at % 5, 10), at) for at in range(20)]
CONFIG = RoundConfig(batch_size=12, max_new_tokens=4)


@pytest.fixture
def policy() -> Policy:
    return policy_of(tiny_llama())


def sampled(policy: Policy, step: int = 5) -> Round:
    return sample_round(policy, ROWS, CONFIG, 3, seed=1, step=step, max_positions=1000)


def moved(policy: Policy, seed: int) -> HeldWeights:
    held = HeldWeights(policy)
    generator = torch.Generator().manual_seed(seed)
    for weight in held.weights.values():
        weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
    return held


def test_answers_to_one_prompt_stand_together(policy: Policy) -> None:
    found = sampled(policy)
    assert found.num_prompts == 4
    for at in range(4):
        group = found.answers[3 * at : 3 * at + 3]
        assert len({answer.row for answer in group}) == 1
        assert all(a.trajectory.prompt_ids == ROWS[a.row].prompt_ids for a in group)
        assert all(a.trajectory.born_at_step == 5 for a in group)
    assert len({answer.row for answer in found.answers}) == 4
    expected = log_probs_along(policy, found.trajectories(), 1000)
    assert [answer.old_log_probs for answer in found.answers] == expected
    assert found == sampled(policy)
    assert found != sampled(policy, step=6)


def test_the_steps_of_a_round_go_through_all_its_prompts(policy: Policy) -> None:
    found = sampled(policy)
    drawn = [found.draw(6, step, seed=0) for step in (5, 6, 7, 8)]
    assert all(len(answers) == 6 for answers in drawn)
    for first, second in ((drawn[0], drawn[1]), (drawn[2], drawn[3])):
        assert {answer.row for answer in (*first, *second)} == {a.row for a in found.answers}
    assert [len(found.draw(count, 5, 0)) for count in (1, 7, 99)] == [3, 6, 12]


def test_a_round_comes_back_from_json_as_it_was(policy: Policy) -> None:
    found = judged(sampled(policy), policy, Judges(moved(policy, 1), moved(policy, 2), 0.9), 1000)
    assert Round.from_state(json.loads(json.dumps(found.state()))) == found


def test_the_reference_says_what_it_would_have_said(policy: Policy) -> None:
    found, reference = sampled(policy), moved(policy, 1)
    before = {name: weight.clone() for name, weight in policy.trainable_parameters().items()}

    told = judged(found, policy, Judges(reference), 1000)

    for name, weight in policy.trainable_parameters().items():
        assert torch.equal(weight, before[name])
    with reference.in_place(policy):
        expected = log_probs_along(policy, found.trajectories(), 1000)
    assert [answer.reference_log_probs for answer in told.answers] == expected
    assert all(answer.returns == () for answer in told.answers)
    k3 = [
        np.exp(np.subtract(each, answer.old_log_probs)).sum()
        - len(each)
        - np.subtract(each, answer.old_log_probs).sum()
        for each, answer in zip(expected, told.answers, strict=True)
    ]
    summary = summary_of(told, policy.space.backspace_id)
    assert summary.kl_to_reference == pytest.approx(np.mean(k3))
    assert summary_of(found, policy.space.backspace_id).kl_to_reference is None


def test_a_dense_reward_returns_the_likelihood_of_what_follows() -> None:
    """G_k - V(s_k) is the discounted log-likelihood, whatever the offsets of the logits (D3)."""
    values = random_values(random_rows(3, lengths=(4, 2)))
    gamma = 0.7
    found = implied_returns(values, gamma) - values.values[:, :-1]
    log_probs = -values.token_nll()
    for row, length in enumerate((4, 2)):
        for k in range(length):
            expected = sum(gamma ** (j - k) * log_probs[row, j] for j in range(k, length))
            assert float(found[row, k]) == pytest.approx(float(expected))


def test_a_teacher_relative_to_the_start_rewards_what_was_learnt(policy: Policy) -> None:
    found, teacher, start = sampled(policy), moved(policy, 1), moved(policy, 2)
    alone = judged(found, policy, Judges(teacher, None, 0.9), 1000)
    before = judged(found, policy, Judges(start, None, 0.9), 1000)
    both = judged(found, policy, Judges(teacher, start, 0.9), 1000)
    for one, other, difference in zip(alone.answers, before.answers, both.answers, strict=True):
        assert difference.returns == pytest.approx(np.subtract(one.returns, other.returns))
        assert one.returns[-1] == pytest.approx(one.reference_log_probs[-1])


# ---- self-play


def test_at_the_opponent_itself_the_loss_is_log_2(policy: Policy) -> None:
    found = sampled(policy)
    demonstrated = [clean_trajectory(ROWS[answer.row], policy.space) for answer in found.answers]
    told = with_demonstrations(found, policy, demonstrated, 1000)
    assert [answer.demonstration_log_probs for answer in told.answers] == log_probs_along(
        policy, demonstrated, 1000
    )
    data, rollouts = random_values(random_rows(1)), random_values(random_rows(2))
    as_opponent = [_at_opponent(side) for side in (data, rollouts)]
    loss = spin_loss(as_opponent[0], as_opponent[1], 0.3)
    assert float(loss.loss) == pytest.approx(np.log(2.0))
    assert float(loss.terms["train/spin_margin"]) == pytest.approx(0.0)


def test_the_self_play_loss_is_that_of_its_formula() -> None:
    data, rollouts = random_values(random_rows(1)), random_values(random_rows(2))
    opponent = [torch.full_like(side.chosen_q, -1.0) for side in (data, rollouts)]
    sides = [
        replace(side, old_log_probs=old)
        for side, old in zip((data, rollouts), opponent, strict=True)
    ]
    expected = []
    for row, lengths in enumerate(zip((3, 5), (3, 5), strict=True)):
        ratios = [
            float((-side.token_nll())[row, :length].sum()) + length
            for side, length in zip((data, rollouts), lengths, strict=True)
        ]
        expected.append(np.log1p(np.exp(-0.3 * (ratios[0] - ratios[1]))))
    assert float(spin_loss(sides[0], sides[1], 0.3).loss) == pytest.approx(np.mean(expected))
    with pytest.raises(ValueError, match="opponent's answers"):
        spin_loss(sides[0], rollouts, 0.3)


def _at_opponent(values: StateActionValues) -> StateActionValues:
    return replace(values, old_log_probs=-values.token_nll().detach())
