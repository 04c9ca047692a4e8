"""D3, D4 and D22 through a policy's own values, on trajectories with bursts, deletions and cuts."""

import numpy as np
import pytest
import torch

from seqmatch.action_space import ActionSpace
from seqmatch.corruption import corrupt, cut_demonstration, cut_to, truncate
from seqmatch.objectives import SequenceMatchConfig, sequence_match_loss
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.policy import Policy
from seqmatch.single_pass import Construction, build_batch
from seqmatch.token_mdp import is_terminal, visited_states
from seqmatch.types import StateActionValues, TokenizedDemonstration, Trajectory
from tests.tiny_models import policy_of, tiny_llama

STOP = 10
DEMO = TokenizedDemonstration((3, 4), (5, 6, 7, 8, 9, STOP), 0)
GAMMA = 0.9
NOISE = CorruptionConfig(rate=0.5, burst=3)
CONSTRUCTIONS: list[Construction] = ["trie", "refeed"]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """In float64, so that identities hold to rounding."""
    return policy_of(tiny_llama()).double()


def trajectories(space: ActionSpace) -> list[Trajectory]:
    """With bursts, cut in the middle of the answer, cut in a burst, and random pushes and pops."""
    rng = np.random.default_rng(0)
    noisy = [corrupt(DEMO, space, NOISE, None, rng) for _ in range(6)]
    cut = [corrupt(cut_demonstration(DEMO, 5), space, NOISE, None, rng) for _ in range(3)]
    stopped = [truncate(row, limit, space) for row, limit in zip(noisy, (1, 3, 5), strict=False)]
    back = space.backspace_id
    floor = Trajectory((3, 4), (5, 6, STOP), (back, 6, STOP))  # a deletion at the floor
    return [*noisy, *cut, *stopped, cut_to(DEMO, 4, space), floor]


def values(policy: Policy, rows: list[Trajectory], how: Construction) -> StateActionValues:
    with torch.no_grad():
        return policy.state_action_values(build_batch(rows, policy.space, construction=how))


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_d3_values_telescope_on_every_realised_trajectory(
    policy: Policy, construction: Construction
) -> None:
    rows = trajectories(policy.space)
    found = values(policy, rows, construction)

    for row in range(len(rows)):
        one = found.rows(slice(row, row + 1))
        total = temporal_differences(one, GAMMA).value_sum()
        torch.testing.assert_close(total, one.values[0, 0])


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_d4_both_estimators_agree_on_realised_trajectories_from_one_start(
    policy: Policy, construction: Construction
) -> None:
    rows = [row for row in trajectories(policy.space) if row.prompt_ids == DEMO.prompt_ids]
    found = values(policy, rows, construction)
    data, model = found.rows(slice(0, 6)), found.rows(slice(6, None))
    config = SequenceMatchConfig(discount=GAMMA)

    losses = [
        sequence_match_loss(data, model, config.model_copy(update={"estimator": name})).loss
        for name in ("telescoped", "paper")
    ]

    torch.testing.assert_close(losses[0], losses[1])


def test_both_constructions_give_the_same_values(policy: Policy) -> None:
    rows = trajectories(policy.space)

    trie, refeed = (values(policy, rows, how) for how in CONSTRUCTIONS)

    torch.testing.assert_close(trie.chosen_q, refeed.chosen_q)
    torch.testing.assert_close(trie.values, refeed.values)


def test_d22_a_cut_ends_in_a_terminal_state_with_its_true_label(policy: Policy) -> None:
    space = policy.space
    for row in trajectories(space):
        last = visited_states(row, space)[-1]
        assert is_terminal(last, len(row.prompt_ids), space)
    cut = cut_to(DEMO, 4, space)
    assert (cut.labels, cut.pushes) == ((5, 6), (5, STOP))
    burst = Trajectory(
        (3, 4), (5, space.backspace_id, space.backspace_id, 5), (6, 7, *[space.backspace_id] * 2)
    )
    stopped = truncate(burst, 2, space)
    assert (stopped.labels, stopped.pushes) == ((5, space.backspace_id), (6, STOP))
