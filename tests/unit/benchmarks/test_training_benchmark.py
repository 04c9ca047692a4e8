"""The parts of `benchmarks.training` at the smallest size: what they compare is what they say."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import length_cut, logging_cost, sequence_match_loop, training, tree_pass
from benchmarks.paired import CONTROL, Figure, Spent, measure, ratios_by
from seqmatch.action_space import ActionSpace
from seqmatch.micro_batches import POSITIONS_A_PASS_COSTS, length_passes
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.phase_times import HostClock, PhaseTimes
from seqmatch.throughput import Throughput

SIZE = sequence_match_loop.Size(
    base_model="byte-llama-small",
    adapter="full",
    batch_size=2,
    num_positions=14,
    num_rollouts=3,
    rounds=3,
    goal=2.3,
)
MATCHING = {
    "kind": "sequence_match",
    "warmup_fraction": 0.0,
    "corruption": {"rate": 0.3},
    "rollouts": {"every": 6, "batch_size": 3, "buffer_size": 3, "max_new_tokens": 6},
}


@pytest.fixture
def space() -> ActionSpace:
    return ActionSpace(
        vocab_size=50,
        eos_id=49,
        pad_id=48,
        bos_id=None,
        has_backspace=True,
        unpushable=frozenset({48, 49}),
    )


def test_variants_take_turns_and_the_baseline_runs_twice() -> None:
    called: list[str] = []
    variants = {"a": lambda: called.append("a"), "b": lambda: called.append("b")}

    found = measure(variants, "a", rounds=3, warm_up=1)

    assert called == ["a", "b", "a", *"aba", *"baa", *"aab"]
    assert {name: len(spent) for name, spent in found.items()} == {"a": 3, "b": 3, CONTROL: 3}


def test_ratios_are_those_of_the_clock_that_is_asked_for() -> None:
    found = {
        "plain": [Spent(cpu=1.0, wall=4.0)] * 3,
        "other": [Spent(2.0, 4.0), Spent(3.0, 6.0), Spent(9.0, 8.0)],
    }

    assert ratios_by(found, "plain", "cpu")["other"].median == 3.0
    assert ratios_by(found, "plain", "wall")["other"].median == 1.5


def test_a_span_samples_once_and_both_loops_read_the_same_demonstrations(tmp_path: Path) -> None:
    sft = sequence_match_loop.Loop(
        SIZE, {"kind": "sft", "backspace": False}, tmp_path / "sft", "cpu"
    )
    matching = sequence_match_loop.Loop(SIZE, MATCHING, tmp_path / "matching", "cpu")
    born = []
    for _ in range(2):
        sft.go_on()
        matching.go_on()
        buffer = matching.run.state.buffer
        rollouts = buffer.sample(len(buffer), np.random.default_rng(0))
        born.append([each.born_at_step for each in rollouts])

    assert SIZE.every == 6  # 6 steps x 2 answers / 3 sampled: each is drawn four times
    assert born == [[6] * 3, [12] * 3]
    assert matching.texts() == sft.texts()


@pytest.mark.parametrize("first_step", [24, 28])
def test_the_phases_of_a_span_add_up_to_its_time(tmp_path: Path, first_step: int) -> None:
    """By a clock that ticks at each reading; the run reports at step 30, the end or amid."""
    read: list[float] = []

    def now() -> float:
        read.append(read[-1] + 1.0 if read else 0.0)
        return read[-1]

    loop = sequence_match_loop.Loop(SIZE, MATCHING, tmp_path, "cpu")
    loop.run.throughput = Throughput(PhaseTimes(HostClock(now)))
    loop.run.state.step = first_step
    now()  # what is before a span counts to none
    began = len(read)

    loop.go_on()

    assert sum(loop.phases[0].values()) == pytest.approx(read[-1] - read[began])
    assert loop.phases[0]["rollout"] > 0.0


def test_the_loop_gives_both_rows(tmp_path: Path) -> None:
    cost, share = sequence_match_loop.both_rows(SIZE, tmp_path, "cpu")

    assert (cost.row, share.row) == ("5", "6")
    assert cost.equality.startswith("2 of 2 demonstrations")


@pytest.mark.parametrize("objective", [SFTConfig(backspace=False), SequenceMatchConfig()])
def test_a_batch_in_passes_has_the_loss_and_gradient_of_the_padded_one(
    objective: SFTConfig | SequenceMatchConfig,
) -> None:
    batch = length_cut.Batch.of(objective, 12, 32, 192, "cpu")
    assert len(length_passes(batch.groups, length_cut.WHOLE)) > 1
    whole = length_passes(batch.groups, length_cut.WHOLE, cost_of_a_pass=length_cut.WHOLE)
    assert len(whole) == 1

    nats, gradient = batch.differences()
    batch.step(POSITIONS_A_PASS_COSTS)

    assert nats < 1e-4
    assert gradient < 1e-4


def test_lengths_vary_as_the_table_asks() -> None:
    lengths = np.array(length_cut.unequal_lengths(48, 32, 192))

    assert lengths.std() / lengths.mean() >= 0.6


def test_trees_have_a_slot_for_each_push_and_the_other_layout_one_for_each_action() -> None:
    visits = tree_pass.Visits.of("byte-llama-small", "full", 3, 2, "cpu")
    labels = [label for each in visits.trajectories for label in each.labels]
    backspace = visits.policy.space.backspace_id

    assert len(labels) == 3 * 21
    assert labels.count(backspace) == 3 * 2 * 2
    assert visits.num_slots("refeed") == 3 * (tree_pass.PROMPT + 21)
    assert visits.num_slots("trie") == 3 * (tree_pass.PROMPT + 21 - 4)
    assert visits.off_by() < 1e-4
    assert tree_pass.figure(visits, rounds=3).row == "16"


def test_something_can_be_deleted_wherever_a_row_deletes(space: ActionSpace) -> None:
    for row in tree_pass.trajectories(20, 3, space):
        depth = 0
        for action in row.labels:
            depth += -1 if action == space.backspace_id else 1
            assert depth >= 0


def test_reports_reach_the_store_and_change_nothing_in_training(tmp_path: Path) -> None:
    (figure,) = logging_cost.figures("cpu", rounds=3, num_steps=10)
    assert figure.row == "22"
    assert figure.equality.endswith("off by 0e+00")

    reported = logging_cost.Reported(tmp_path, "cpu")
    try:
        reported.go_on(10)
        run_id = reported.store.runs.active()[0].id
        points = reported.store.metrics.read(run_id).points
        spent = reported.calls_of_a_step(20)
    finally:
        reported.close()

    assert {point.step for point in points} == {10}
    assert {"train/nll", "system/share_forward"} <= {point.name for point in points}
    assert reported.writing[0] > 0.0
    assert spent > 0.0


def test_nothing_is_noted_of_a_silent_run(tmp_path: Path) -> None:
    silent = logging_cost.Silent(tmp_path, "cpu")
    silent.go_on(2)

    assert silent.run.state.step == 2
    assert silent.run.state.means.take() == {}
    assert set(silent.run.throughput.phases.take()) == {"other"}


def test_each_measurement_runs_once_for_the_rows_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[str] = []

    def loop(device: str) -> Iterator[Figure]:
        measured.append(device)
        for row in ("5", "6"):
            yield Figure(row, "", "", "", None, "")

    def other(device: str) -> Iterator[Figure]:
        raise AssertionError(device)

    monkeypatch.setattr(training, "ROWS", {"5": loop, "6": loop, "22": other})

    assert [figure.row for figure in training.figures(["6"])] == ["6"]
    assert [figure.row for figure in training.figures(["5", "6"])] == ["5", "6"]
    assert len(measured) == 2
