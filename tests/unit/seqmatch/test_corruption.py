import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmatch.action_space import ActionSpace
from seqmatch.corruption import (
    clean_trajectory,
    corrupt,
    cut_demonstration,
    cut_to,
    plan_strikes,
    pushable_tokens,
    truncate,
    with_mistakes,
)
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.single_pass import Construction, build_batch
from seqmatch.token_mdp import final_tokens, visited_states
from seqmatch.types import TokenizedDemonstration, Trajectory
from tests.corrupted_trajectories import assert_labels_are_true, burst_lengths

SPACE = ActionSpace(12, 0, 1, 2, True, frozenset({0, 1, 2, 3}))
BACKSPACE = SPACE.backspace_id
DEMO = TokenizedDemonstration((2, 9, 5), (5, 6, 7, 8, 9, 10, 11, 5, 6, 7, 0), 4)


def noisy(
    rate: float,
    seed: int,
    noise_ids: tuple[int, ...] | None = None,
    demo: TokenizedDemonstration = DEMO,
    burst: int = 1,
    max_tokens: int | None = None,
) -> Trajectory:
    rng = np.random.default_rng(seed)
    config = CorruptionConfig(rate=rate, burst=burst)
    return corrupt(demo, SPACE, config, noise_ids, rng, max_tokens)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5]), st.sampled_from([1, 2, 5]))
def test_d16_corruption_replays_to_the_demonstration_with_true_labels(
    seed: int, rate: float, burst: int
) -> None:
    """D16: the clean answer remains; each state's label is its true next action."""
    trajectory = noisy(rate, seed, burst=burst)

    assert_labels_are_true(trajectory, DEMO, SPACE)
    for length in burst_lengths(trajectory, SPACE):
        assert 1 <= length <= burst


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5]))
def test_d16_rate_zero_is_the_identity(seed: int, burst: int) -> None:
    assert noisy(0.0, seed, burst=burst) == clean_trajectory(DEMO, SPACE)


@pytest.mark.parametrize("burst", [1, 3])
@pytest.mark.parametrize(("construction", "slots_per_noise"), [("refeed", 2), ("trie", 1)])
def test_d16_expected_number_of_slots(
    construction: Construction, slots_per_noise: int, burst: int
) -> None:
    """D16: 1 + N (1 + 2 eta m) slots for re-feed, 1 + N (1 + eta m) for the trie, within 5 sigma.

    m = (1 + burst) / 2 wrong tokens a strike. Nothing is shared by bursts, so the trie's is exact.
    """
    demo = TokenizedDemonstration((2,), DEMO.completion_ids, 0)
    num_positions, rate, num_rows = len(demo.completion_ids), 0.25, 2000
    rows = [noisy(rate, seed, demo=demo, burst=burst) for seed in range(num_rows)]

    slots = build_batch(rows, SPACE, construction=construction).is_slot.sum(dim=1).double()

    lengths = np.arange(1, burst + 1)
    mean, square = rate * lengths.mean(), rate * (lengths**2).mean()
    expected = 1 + num_positions * (1 + slots_per_noise * mean)
    deviation = slots_per_noise * np.sqrt(num_positions * (square - mean**2) / num_rows)
    assert abs(float(slots.mean()) - expected) < 5 * deviation


def test_worked_example_of_a_burst() -> None:
    a, b, x, y = 5, 6, 9, 10
    demo = TokenizedDemonstration((2,), (a, b, 0), 0)

    trajectory = with_mistakes(demo, SPACE, {1: [x, y]})

    assert trajectory.labels == (a, b, *[BACKSPACE] * 3, b, 0)
    assert trajectory.pushes == (a, x, y, BACKSPACE, BACKSPACE, b, 0)


def test_lengths_of_bursts_are_uniform() -> None:
    """Chi-square test at the 1e-6 quantile of 3 degrees of freedom (about 30.7)."""
    config = CorruptionConfig(rate=0.5, burst=4)
    rng = np.random.default_rng(0)
    lengths = [strike.length for _ in range(800) for strike in plan_strikes(DEMO, config, rng)]

    counts = np.bincount(lengths, minlength=5)
    assert counts[0] == 0
    expected = len(lengths) / 4
    assert ((counts[1:] - expected) ** 2 / expected).sum() < 30.7


@given(st.integers(0, 2**32 - 1), st.integers(0, 4))
def test_no_state_is_longer_than_the_limit(seed: int, room: int) -> None:
    """With no room at all a burst has one token: then it is as long as the clean row at its end."""
    limit = len(DEMO.prompt_ids) + len(DEMO.completion_ids) + room

    trajectory = noisy(0.5, seed, burst=6, max_tokens=limit)

    assert max(map(len, visited_states(trajectory, SPACE))) <= limit
    assert_labels_are_true(trajectory, DEMO, SPACE)


def test_every_place_is_struck_where_a_row_just_fits() -> None:
    config = CorruptionConfig(rate=0.5, burst=6)
    limit = len(DEMO.prompt_ids) + len(DEMO.completion_ids)
    places = {
        strike.at
        for seed in range(200)
        for strike in plan_strikes(DEMO, config, np.random.default_rng(seed), limit)
    }

    assert places == set(range(len(DEMO.completion_ids)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4]))
def test_noise_never_reaches_the_prompt(seed: int, burst: int) -> None:
    """The prompt stands as it was in every state, and is never asked to be deleted."""
    trajectory = noisy(0.5, seed, burst=burst)

    floor = len(DEMO.prompt_ids)
    states = visited_states(trajectory, SPACE)
    assert all(state[:floor] == DEMO.prompt_ids for state in states)
    for label, push, state in zip(trajectory.labels, trajectory.pushes, states, strict=False):
        assert len(state) > floor or BACKSPACE not in (label, push)


def test_noise_is_uniform_over_what_it_may_push() -> None:
    """Chi-square test at the 1e-6 quantile of 6 degrees of freedom (about 38.3)."""
    demo = TokenizedDemonstration((2,), (5,), 0)
    rng = np.random.default_rng(0)
    config = CorruptionConfig(rate=0.5)
    counts = np.zeros(SPACE.vocab_size)
    for _ in range(8000):
        pushes = corrupt(demo, SPACE, config, None, rng).pushes
        counts[pushes[0]] += len(pushes) == 3

    allowed = [4, 6, 7, 8, 9, 10, 11]
    assert counts.sum() == counts[allowed].sum()
    expected = counts.sum() / len(allowed)
    assert ((counts[allowed] - expected) ** 2 / expected).sum() < 38.3


def test_noise_comes_from_the_token_set_and_is_never_the_right_token() -> None:
    for seed in range(200):
        trajectory = noisy(0.5, seed, noise_ids=(5, 6, 3, 0))
        for label, push in zip(trajectory.labels, trajectory.pushes, strict=True):
            assert label == push or (push in {5, 6} and label != push)


def test_position_stays_clean_where_the_only_noise_token_is_right() -> None:
    demo = TokenizedDemonstration((2,), (5, 5, 5, 0), 0)
    for seed in range(50):
        pushes = noisy(0.5, seed, noise_ids=(5,), demo=demo).pushes
        assert pushes in {(5, 5, 5, 0), (5, 5, 5, 5, BACKSPACE, 0)}


@pytest.mark.parametrize("noise_ids", [(), (0, 3), (12,), (-1,)])
def test_corrupt_refuses_noise_that_may_not_be_pushed(noise_ids: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError):
        noisy(0.5, 0, noise_ids=noise_ids)


def test_corrupt_refuses_a_space_without_backspace() -> None:
    space = ActionSpace(12, 0, 1, 2, False, frozenset())
    with pytest.raises(ConfigError, match="backspace"):
        corrupt(DEMO, space, CorruptionConfig(), None, np.random.default_rng(0))


@pytest.mark.parametrize("demo", [((2,), ()), ((), (5, 0))])
def test_empty_demonstrations_are_refused(demo: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(DemonstrationError, match="demonstration 8"):
        clean_trajectory(TokenizedDemonstration(*demo, 8), SPACE)


def test_d22_cut_demonstration_ends_with_a_forced_stop_and_its_true_label() -> None:
    """D22: label = true next token, next state terminal."""
    trajectory = cut_to(DEMO, 7, SPACE)

    assert trajectory.labels == (5, 6, 7, 8)
    assert trajectory.pushes == (5, 6, 7, 0)
    assert len(visited_states(trajectory, SPACE)[-1]) == 7


def test_d22_cut_demonstration_keeps_the_forced_stop_under_noise() -> None:
    trajectory = noisy(0.5, 3, demo=cut_demonstration(DEMO, 7))

    assert final_tokens(trajectory, SPACE) == (5, 6, 7, 0)
    assert trajectory.labels[-1] == 8


def test_cut_to_leaves_what_fits_and_refuses_what_has_no_room() -> None:
    assert cut_to(DEMO, 14, SPACE) == clean_trajectory(DEMO, SPACE)
    with pytest.raises(DemonstrationError, match="demonstration 4"):
        cut_to(DEMO, 3, SPACE)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_d22_truncation_keeps_the_label_and_forces_the_stop(limit: int) -> None:
    rollout = Trajectory((2,), (5, 6, BACKSPACE, 7, 8), (5, 6, BACKSPACE, 7, 8), born_at_step=3)

    cut = truncate(rollout, limit, SPACE)

    assert cut.labels == rollout.labels[:limit]
    assert cut.pushes == (*rollout.pushes[: limit - 1], SPACE.eos_id)
    assert visited_states(cut, SPACE)[-1][-1] == SPACE.eos_id
    assert cut.born_at_step == 3


def test_truncate_returns_a_finished_trajectory_as_it_is() -> None:
    finished = clean_trajectory(DEMO, SPACE)

    assert truncate(finished, 100, SPACE) == finished
    with pytest.raises(ConfigError):
        truncate(finished, 0, SPACE)


def test_stop_padding_and_start_are_never_pushed_whatever_else_is_special() -> None:
    bare = ActionSpace(6, 0, 1, 2, True, frozenset())

    assert pushable_tokens(bare).tolist() == [3, 4, 5]
    assert pushable_tokens(bare, (0, 4, 2)).tolist() == [4]
