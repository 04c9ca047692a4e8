"""The small accounts of a run: seeds, means, speed, the metric table, and the cut into passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmatch.metric_table import MetricTable
from seqmatch.micro_batches import num_passes, positions_per_pass, share
from seqmatch.phase_times import HostClock, PhaseTimes
from seqmatch.running_means import RunningMeans
from seqmatch.seeding import child_seed, generator
from seqmatch.throughput import Throughput, peak_memory_megabytes
from seqmatch.types import Trajectory


def test_streams_differ_by_seed_name_and_step_and_are_the_same_again() -> None:
    streams: list[tuple[int, tuple[str | int, ...]]] = [
        (0, ("order",)),
        (1, ("order",)),
        (0, ("noise",)),
        (0, ("noise", 1)),
        (0, ("noise", 11)),
    ]

    firsts = [generator(seed, *name).integers(2**60) for seed, name in streams]

    assert len(set(firsts)) == len(streams)
    assert firsts == [generator(seed, *name).integers(2**60) for seed, name in streams]
    assert child_seed(0, "a", 1) != child_seed(0, "a1")
    assert 0 <= child_seed(0, "a") < 2**63


def test_means_are_over_the_steps_that_have_the_name() -> None:
    means = RunningMeans()
    means.add({"train/loss": 1.0})
    means.add({"train/loss": 3.0, "train/td_rollout": 0.1})

    restored = RunningMeans.from_state(means.state())

    assert restored.take() == {"train/loss": 2.0, "train/td_rollout": 0.1}
    assert restored.take() == {}


def test_speed_is_since_the_last_report() -> None:
    throughput = Throughput(PhaseTimes(HostClock(iter([0.0, 1.0, 1.5, 2.0, 3.0]).__next__)))
    throughput.add_step(100)
    throughput.add_step(300)
    with throughput.phases.during("rollout"):
        pass

    first, second = throughput.take(), throughput.take()

    assert first["system/steps_per_second"] == 1.0
    assert first["system/tokens_per_second"] == 200.0
    assert first["system/rollout_seconds"] == 0.5
    assert first["system/share_rollout"] == 0.25
    assert second["system/share_rollout"] == 0.0
    assert second["system/share_other"] == 1.0
    assert second["system/steps_per_second"] == 0.0
    assert 10 < peak_memory_megabytes() < 1e6


def test_the_metric_table_keeps_the_last_number_of_a_step() -> None:
    table = MetricTable()
    table.add(10, {"eval/nll": 0.5, "train/loss": 3.0})
    table.add(20, {"eval/nll": 0.25})
    table.add(10, {"train/loss": 2.0})

    assert table.csv() == "name,step,value\neval/nll,10,0.5\neval/nll,20,0.25\ntrain/loss,10,2.0\n"


def _rows(*lengths: int) -> list[Trajectory]:
    return [Trajectory((1,), (2,) * (n - 1), (2,) * (n - 1)) for n in lengths]


def test_a_small_batch_goes_in_one_pass_and_a_long_row_alone() -> None:
    assert num_passes([_rows(3, 4), []], 100) == 1
    assert num_passes([_rows(60, 10, 10)], 100) == 2
    assert num_passes([_rows(500, 500)], 100) == 2
    assert num_passes([[]], 100) == 1


@given(st.integers(0, 40), st.integers(1, 12))
def test_shares_are_a_partition_in_order(size: int, count: int) -> None:
    rows = _rows(*range(2, size + 2))

    parts = [share(rows, index, count) for index in range(count)]

    assert [row for part in parts for row in part] == rows
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_positions_per_pass_of_the_two_models() -> None:
    """A layer keeps 8 hidden and 4 feed-forward vectors of float32 for each position."""
    small = positions_per_pass(
        hidden_size=96, intermediate_size=256, num_layers=3, budget_bytes=2**30
    )
    assert small == 2**30 // (4 * 3 * (8 * 96 + 4 * 256))
    again = positions_per_pass(
        hidden_size=96,
        intermediate_size=256,
        num_layers=3,
        budget_bytes=2**30,
        is_checkpointed=True,
    )
    assert again == 2**30 // (4 * (3 * 96 + 8 * 96 + 4 * 256)), "three inputs and one whole layer"
    assert positions_per_pass(
        hidden_size=10**6, intermediate_size=10**6, num_layers=100, budget_bytes=1
    ) == pytest.approx(1)


def test_the_streams_look_uniform() -> None:
    drawn = np.array([generator(0, "corruption", step).random() for step in range(2000)])

    assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 2000)
