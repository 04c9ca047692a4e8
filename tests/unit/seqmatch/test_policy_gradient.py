"""The policy step: rewards, returns with their tail, baselines and surrogates."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.divergences import divergences_of
from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.exact.adversarial import all_answers
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy, make_policy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import WeightedTrajectories, values_along
from seqmatch.policy_gradient import (
    RewardLevel,
    answer_returns,
    answer_rewards,
    discounted_returns,
    fairl_original,
    grpo_advantages,
    kl_to_reference,
    leave_one_out_returns,
    limited,
    ppo_surrogate,
    reinforce_surrogate,
    reward_function,
    rloo_advantages,
    sampled_entropy,
    whitened,
)
from tests.oracles.f_divergences import policy_reward

IS_ACTION = torch.tensor([[True, True, True], [True, False, False]])
H = torch.tensor([[0.5, -1.0, 2.0], [-0.3, 9.0, 9.0]], dtype=torch.float64, requires_grad=True)
DISCOUNT = 0.8


def _policy(seed: int = 0, max_length: int = 3) -> ExactPolicy:
    return make_policy(TokenChain.of_size(3, max_length, False), "tabular", seed)


def _gradient(loss: Tensor, policy: ExactPolicy) -> Tensor:
    gradients = torch.autograd.grad(loss, list(policy.parameters()), materialize_grads=True)
    return torch.cat([each.flatten() for each in gradients])


def _answers(policy: ExactPolicy) -> WeightedTrajectories:
    """Every answer, weighed by its probability under the policy."""
    every = all_answers(policy.chain)
    law = output_law(policy.chain, policy.log_probs().detach())
    return WeightedTrajectories(every.states, every.labels, every.num_actions, law)


def _rows(answers: WeightedTrajectories, rows: list[int], weight: float) -> WeightedTrajectories:
    """A batch of some answers; the means of losses over it are multiplied by the weight."""
    each = torch.full((len(rows),), weight / len(rows), dtype=torch.float64)
    return WeightedTrajectories(
        answers.states[rows], answers.labels[rows], answers.num_actions[rows], each
    )


def _numbers(num: int, seed: int = 3) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=num))


@pytest.mark.parametrize("name", sorted(divergences_of("adversarial")))
def test_rewards_of_every_level_and_divergence(name: str) -> None:
    reward = reward_function(name)
    r = policy_reward(name, H.detach().numpy())
    expected: dict[RewardLevel, list[list[float]]] = {
        "token": [[r[0, 0], r[0, 1], r[0, 2]], [r[1, 0], 0.0, 0.0]],
        "trajectory": [[0.0, 0.0, r[0, 2]], [r[1, 0], 0.0, 0.0]],
        "increments": [[r[0, 0], r[0, 1] - r[0, 0], r[0, 2] - r[0, 1]], [r[1, 0], 0.0, 0.0]],
    }
    for level, numbers in expected.items():
        found = answer_rewards(H, IS_ACTION, reward, level)
        assert not found.requires_grad
        np.testing.assert_allclose(found, numbers, rtol=1e-12, atol=1e-15)


def test_the_original_reward_of_fairl_is_no_divergence_and_is_limited_by_name() -> None:
    h = torch.tensor([-2.0, -1.0, 0.0, 1.0, 40.0], dtype=torch.float64)

    assert reward_function("fairl_original") is fairl_original
    assert fairl_original(h[:4]).tolist() == pytest.approx(
        [2 * math.exp(-2), math.exp(-1), 0.0, -math.e]
    )
    assert limited(fairl_original)(h)[-1].item() == pytest.approx(-10 * math.exp(10))
    assert limited(reward_function("forward_kl"), 2.0)(h).tolist() == pytest.approx(
        [math.expm1(-2), math.expm1(-1), 0.0, math.expm1(1), math.expm1(2)]
    )
    with pytest.raises(UnknownNameError, match="unknown divergence 'fairl'"):
        reward_function("fairl")


@pytest.mark.parametrize("discount", [0.5, 0.9])
def test_returns_are_the_sum_over_a_very_long_absorbing_tail(discount: float) -> None:
    rewards = torch.tensor([[1.0, -2.0, 0.7], [3.0, 99.0, 99.0]], dtype=torch.float64)
    ends = torch.tensor([0.4, -1.5], dtype=torch.float64)

    found = discounted_returns(rewards, IS_ACTION, discount, ends)

    for row, length in enumerate((3, 1)):
        stream = [*rewards[row, :length].tolist(), *[float(ends[row])] * 2000]
        for start in range(length):
            total = math.fsum(discount**k * r for k, r in enumerate(stream[start:]))
            assert float(found[row, start]) == pytest.approx(total, abs=1e-12)
        assert found[row, length:].tolist() == [0.0] * (3 - length)


def test_returns_of_each_level() -> None:
    reward = reward_function("reverse_kl")
    h = [0.5, -1.0, 2.0]

    token = answer_returns(H, IS_ACTION, reward, "token", 0.9)
    last = 2.0 + 0.9 / 0.1 * 2.0
    assert token[0].tolist() == pytest.approx([0.5 - 0.9 + 0.81 * last, -1 + 0.9 * last, last])
    whole = answer_returns(H, IS_ACTION, reward, "trajectory", 0.9)
    assert whole.tolist() == [[2.0, 2.0, 2.0], [-0.3, 0.0, 0.0]]
    steps = answer_returns(H, IS_ACTION, reward, "increments", 0.9)
    assert steps[0].tolist() == pytest.approx([2.0, 2.0 - h[0], 2.0 - h[1]])


def test_returns_refuse_a_discount_that_has_no_sum() -> None:
    with pytest.raises(ConfigError, match="discount 0; allowed: above 0, at most 1"):
        discounted_returns(H, IS_ACTION, 0)
    with pytest.raises(ConfigError, match="the sum over it is infinite"):
        discounted_returns(H, IS_ACTION, 1.0, torch.zeros(2))


def test_d20_advantages_sum_to_zero_in_each_group() -> None:
    groups = torch.tensor([1, 0, 1, 0, 1])
    rewards = _numbers(5)

    for advantages in (rloo_advantages(rewards, groups), grpo_advantages(rewards, groups)):
        for group in (0, 1):
            assert float(advantages[groups == group].sum()) == pytest.approx(0.0, abs=1e-14)

    rloo, grpo = rloo_advantages(rewards, groups), grpo_advantages(rewards, groups, 0.0)
    for i in range(5):
        own = [float(rewards[j]) for j in range(5) if groups[j] == groups[i]]
        others = [float(rewards[j]) for j in range(5) if groups[j] == groups[i] and j != i]
        r = float(rewards[i])
        assert float(rloo[i]) == pytest.approx(r - np.mean(others))
        assert float(rloo[i]) == pytest.approx(len(own) / (len(own) - 1) * (r - np.mean(own)))
        assert float(grpo[i]) == pytest.approx((r - np.mean(own)) / np.std(own, ddof=1))


def test_equal_rewards_teach_nothing_and_a_lonely_answer_is_refused() -> None:
    groups = torch.tensor([0, 0, 1, 1])
    assert grpo_advantages(torch.ones(4), groups).tolist() == [0.0] * 4
    with pytest.raises(ConfigError, match="prompt 1 has one answer"):
        rloo_advantages(torch.ones(3), torch.tensor([0, 0, 1]))


def test_leave_one_out_returns_compare_with_the_others_that_still_run() -> None:
    is_action = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    returns = torch.tensor([[1.0, 2.0], [4.0, 0.0], [7.0, 10.0], [5.0, 5.0]])

    found = leave_one_out_returns(returns, is_action, torch.tensor([0, 0, 0, 1]))

    assert found.tolist() == [[-4.5, -8.0], [0.0, 0.0], [4.5, 8.0], [5.0, 5.0]]


def _each_batch(
    policy: ExactPolicy, size: int, loss: Callable[[WeightedTrajectories, list[int]], Tensor]
) -> Tensor:
    """The expected gradient over all batches of so many independent answers."""
    answers = _answers(policy)
    total = torch.zeros(sum(each.numel() for each in policy.parameters()), dtype=torch.float64)
    for rows in itertools.product(range(len(answers.weights)), repeat=size):
        chance = math.prod(float(answers.weights[row]) for row in rows)
        total += _gradient(loss(_rows(answers, list(rows), chance), list(rows)), policy)
    return total


def test_d20_rloo_is_unbiased() -> None:
    policy, groups = _policy(), torch.zeros(2, dtype=torch.long)
    reward = _numbers(len(policy.chain.terminal))

    def loss(batch: WeightedTrajectories, rows: list[int]) -> Tensor:
        advantages = rloo_advantages(reward[rows], groups)
        return reinforce_surrogate(values_along(policy, batch), advantages[:, None])

    exact = (output_law(policy.chain, policy.log_probs()) * reward).sum()
    torch.testing.assert_close(
        _each_batch(policy, 2, loss), -_gradient(exact, policy), rtol=0, atol=1e-13
    )


def test_d20_leave_one_out_returns_are_unbiased_with_discount_and_tail() -> None:
    policy, groups = _policy(max_length=3), torch.zeros(2, dtype=torch.long)
    chain, answers = policy.chain, _answers(policy)
    table = _numbers(chain.exists.numel()).view(chain.exists.shape)
    rewards = table[answers.states[:, :-1], answers.labels]
    ends = table[chain.terminal, 0]

    def loss(batch: WeightedTrajectories, rows: list[int]) -> Tensor:
        returns = discounted_returns(rewards[rows], batch.is_action, DISCOUNT, ends[rows])
        advantages = leave_one_out_returns(returns, batch.is_action, groups)
        return reinforce_surrogate(values_along(policy, batch), advantages, DISCOUNT)

    # (1 - gamma) E[sum gamma^t r_t + tail] is the mean of r under the occupancy measure.
    rho = state_action_occupancy(chain, policy.log_probs(), DISCOUNT)
    exact = (rho * table).sum() / (1 - DISCOUNT)
    torch.testing.assert_close(
        _each_batch(policy, 2, loss), -_gradient(exact, policy), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("discount", [1.0, DISCOUNT])
def test_ppo_with_ratio_one_has_the_gradient_of_reinforce(discount: float) -> None:
    policy = _policy()
    rollouts = values_along(policy, _answers(policy))
    advantages = _numbers(rollouts.is_action.numel()).view(rollouts.is_action.shape)
    old = (rollouts.chosen_q - rollouts.values[:, :-1]).detach()

    ppo = _gradient(ppo_surrogate(rollouts, old, advantages, discount=discount), policy)

    rollouts = values_along(policy, _answers(policy))
    expected = _gradient(reinforce_surrogate(rollouts, advantages, discount), policy)
    torch.testing.assert_close(ppo, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "value", "is_clipped"),
    [
        (0.5, 1.0, 1.2, True),  # likelier already, and good: no further
        (0.5, -1.0, -math.exp(0.5), False),  # likelier, but bad: back
        (-0.5, 1.0, math.exp(-0.5), False),
        (-0.5, -1.0, -0.8, True),
        (0.1, 1.0, math.exp(0.1), False),
    ],
)
def test_ppo_has_no_gradient_beyond_the_clip(
    log_ratio: float, advantage: float, value: float, is_clipped: bool
) -> None:
    policy = _policy()
    one = _rows(_answers(policy), [0], 1.0)  # the answer that stops at once
    rollouts = values_along(policy, one)
    shape = rollouts.is_action.shape
    old = (rollouts.chosen_q - rollouts.values[:, :-1]).detach() - log_ratio

    loss = ppo_surrogate(rollouts, old, torch.full(shape, advantage, dtype=torch.float64))

    assert loss.item() == pytest.approx(-value)
    assert (_gradient(loss, policy).abs().max().item() == 0.0) == is_clipped
    with pytest.raises(ConfigError, match="clip 1; allowed: above 0 and below 1"):
        ppo_surrogate(rollouts, old, old, clip=1)


def test_k3_is_the_kl_of_whole_answers_and_descends_the_other_one() -> None:
    policy, reference = _policy(0), _policy(1)
    answers = _answers(policy)
    of_reference = values_along(reference, answers)
    log_reference = (of_reference.chosen_q - of_reference.values[:, :-1]).detach()

    found = kl_to_reference(values_along(policy, answers), log_reference)

    ours, other = (
        output_law(each.chain, each.log_probs()).detach() for each in (policy, reference)
    )
    assert found.item() == pytest.approx(float((ours * (ours / other).log()).sum()))

    visits = torch.zeros(policy.chain.num_states, dtype=torch.float64)
    for row, length in enumerate(answers.num_actions.tolist()):
        visits[answers.states[row, :length]] += answers.weights[row]
    alive = policy.chain.alive
    p_reference = reference.log_probs()[alive].detach().exp()
    log_p = policy.log_probs()[alive].masked_fill(p_reference == 0.0, 0.0)
    forward = -(visits[alive, None] * p_reference * log_p).sum()
    torch.testing.assert_close(
        _gradient(found, policy), _gradient(forward, policy), rtol=0, atol=1e-13
    )


def test_entropy_is_that_of_the_law_over_the_mean_length() -> None:
    policy = _policy()
    answers = _answers(policy)
    law = answers.weights

    found = sampled_entropy(values_along(policy, answers))

    expected = -(law * law.log()).sum() / (law * answers.num_actions).sum()
    assert found.item() == pytest.approx(float(expected))
    assert not found.requires_grad


def test_whitened_advantages_have_mean_zero_and_deviation_one_over_the_actions() -> None:
    advantages = torch.tensor([[1.0, 2.0, 6.0], [3.0, 70.0, -5.0]], dtype=torch.float64)

    found = whitened(advantages, IS_ACTION)

    np.testing.assert_allclose(found[1, 1:], 0.0)
    values = found[IS_ACTION].numpy()
    assert values.mean() == pytest.approx(0.0, abs=1e-12)
    assert values.std() == pytest.approx(1.0)
