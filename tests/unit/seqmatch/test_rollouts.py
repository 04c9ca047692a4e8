"""Rollouts as trajectories, and the buffer that keeps them."""

import json

import numpy as np
import pytest

from seqmatch.decoding.generation import Rollout
from seqmatch.objectives import RolloutConfig
from seqmatch.replay_buffer import ReplayBuffer
from seqmatch.rollouts import sample_rollouts, to_trajectory
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory
from tests.tiny_models import policy_of, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7), (2, 2)] * 4


def test_rollouts_are_trajectories_that_end_in_the_stop_token() -> None:
    policy = policy_of(tiny_llama(), likes_backspace=2.0)
    config = RolloutConfig(max_new_tokens=6)
    found = sample_rollouts(policy, PROMPTS, config, seed=1, step=40)
    again = sample_rollouts(policy, PROMPTS, config, seed=1, step=40)
    other = sample_rollouts(policy, PROMPTS, config, seed=2, step=40)
    assert found == again != other
    eos_id = policy.space.eos_id
    cut = [each for each in found if each.labels[-1] != eos_id]
    assert 0 < len(cut) < len(found)
    for trajectory, prompt in zip(found, PROMPTS, strict=True):
        assert trajectory.prompt_ids == prompt
        assert trajectory.born_at_step == 40
        assert trajectory.pushes[-1] == eos_id
        assert trajectory.pushes[:-1] == trajectory.labels[:-1]
    batch = build_batch(found, policy.space)
    assert policy.state_action_values(batch).values.isfinite().all()


def test_a_cut_rollout_keeps_its_label() -> None:
    space = policy_of(tiny_llama()).space
    cut = to_trajectory(Rollout((1,), (2, 3, 4), False), space, 5)
    assert cut == Trajectory((1,), (2, 3, 4), (2, 3, 10), 5)
    whole = to_trajectory(Rollout((1,), (2, 10), True), space)
    assert whole == Trajectory((1,), (2, 10), (2, 10), 0)


def trajectories(count: int) -> list[Trajectory]:
    return [Trajectory((1,), (at, 10), (at, 10), born_at_step=at) for at in range(count)]


def test_the_oldest_are_dropped_first() -> None:
    buffer = ReplayBuffer(5)
    buffer.add(trajectories(3))
    assert len(buffer) == 3
    buffer.add(trajectories(9))
    drawn = buffer.sample(5, np.random.default_rng(0))
    assert sorted(each.born_at_step for each in drawn) == [4, 5, 6, 7, 8]


def test_draws_repeat_rows_only_where_it_must() -> None:
    buffer = ReplayBuffer(10)
    buffer.add(trajectories(4))
    assert len(set(buffer.sample(4, np.random.default_rng(0)))) == 4
    assert len(buffer.sample(9, np.random.default_rng(0))) == 9
    one, same = (buffer.sample(3, np.random.default_rng(7)) for _ in range(2))
    assert one == same


def test_the_state_is_json_and_comes_back() -> None:
    buffer = ReplayBuffer(6)
    buffer.add(trajectories(8))
    restored = ReplayBuffer.from_state(json.loads(json.dumps(buffer.state())))
    assert restored.state() == buffer.state()
    rngs = (np.random.default_rng(3), np.random.default_rng(3))
    assert buffer.sample(4, rngs[0]) == restored.sample(4, rngs[1])
    restored.add(trajectories(1))
    assert len(restored) == 6


def test_an_empty_or_impossible_buffer_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ReplayBuffer(0)
    with pytest.raises(ValueError, match="empty replay buffer"):
        ReplayBuffer(3).sample(1, np.random.default_rng(0))
