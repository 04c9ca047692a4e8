"""The store among processes: opened by many, claimed from once, killed without warning."""

import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest

from storage import RunStore
from storage.backup import copy_database
from storage.engine import sqlite_module
from storage.errors import LeaseLostError
from storage.records import MetricPoint, NewRun, RunStatus
from tests.integration.storage.store_processes import (
    add_points,
    claim_all,
    open_at_once,
    write_points,
)

DATASET = "a" * 64
DEADLINE = 60.0


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Children are forked from a server that has imported the store and opened none."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["pytest", "tests.integration.storage.store_processes"])
    return made


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> Iterator[RunStore]:
    opened = RunStore.open(data_dir)
    opened.datasets.add(DATASET, "sums", 1, 0, "{}")
    opened.devices.set_slots(["cpu:0", "cpu:1", "cpu:2"])
    yield opened
    opened.close()


def _new(name: str = "n") -> NewRun:
    return NewRun(name, "{}", "sft", "", "m", DATASET, 0, 10)


def _join(processes: list[ForkServerProcess]) -> list[int | None]:
    deadline = time.monotonic() + DEADLINE
    for process in processes:
        process.join(max(0.1, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def _wait_for_more(file: Path, num_bytes: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while _size(file) <= num_bytes:
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_processes_that_make_a_new_store_at_once_all_succeed(
    context: ForkServerContext, data_dir: Path
) -> None:
    barrier = context.Barrier(6)
    processes = [context.Process(target=open_at_once, args=(data_dir, barrier)) for _ in range(6)]
    for process in processes:
        process.start()

    assert _join(processes) == [0] * 6

    store = RunStore.open(data_dir)
    assert all(store.settings.get(f"process/{process.pid}") for process in processes)
    store.close()


def test_each_run_and_each_task_is_claimed_exactly_once(
    context: ForkServerContext, store: RunStore, data_dir: Path, tmp_path: Path
) -> None:
    runs = [store.runs.create(_new()).id for _ in range(150)]
    tasks = [store.tasks.submit("generate", "{}").id for _ in range(150)]
    barrier = context.Barrier(8)
    reports = [tmp_path / f"report-{number}" for number in range(8)]
    processes = [
        context.Process(target=claim_all, args=(data_dir, barrier, report)) for report in reports
    ]
    for process in processes:
        process.start()

    assert _join(processes) == [0] * 8

    claims = Counter(line for report in reports for line in report.read_text().split("\n") if line)
    expected = [f"run {run} 1" for run in runs] + [f"task {task} 1" for task in tasks]
    assert claims == Counter(expected)
    assert all(slot.run_id is None for slot in store.devices.list())


def test_a_killed_writer_loses_no_acknowledged_point(
    context: ForkServerContext, store: RunStore, data_dir: Path, tmp_path: Path
) -> None:
    """SIGKILL at any moment: what `append` returned from is there, in whole batches."""
    run_id = store.runs.create(_new()).id
    acknowledged = tmp_path / "acknowledged"
    num_kills = 36
    for attempt in range(1, num_kills + 1):
        claim = store.runs.claim("test")
        assert claim is not None
        assert claim.attempt == attempt
        process = context.Process(
            target=write_points, args=(data_dir, run_id, attempt, acknowledged), daemon=True
        )
        before = _size(acknowledged)
        process.start()
        _wait_for_more(acknowledged, before + attempt * 5)
        process.kill()
        process.join()

        last = int(acknowledged.read_text().split()[-1])
        steps = sorted(point.step for point in store.metrics.read(run_id).points)
        assert steps == list(range(1, len(steps) + 1))
        assert len(steps) % 5 == 0
        assert last <= len(steps) <= last + 5
        with pytest.raises(LeaseLostError):
            store.metrics.append(run_id, attempt - 1, [MetricPoint("train/loss", 0, 0.0)])
        store.runs.crashed(run_id, attempt, "killed:9", "SIGKILL", may_retry=False)
        store.runs.requeue(run_id)


def test_a_store_whose_last_user_was_killed_opens(
    context: ForkServerContext, store: RunStore, data_dir: Path, tmp_path: Path
) -> None:
    """Nobody else has it open: the log of the dead is read back and every page checked."""
    run_id = store.runs.create(_new()).id
    assert store.runs.claim("test") is not None
    store.close()
    acknowledged = tmp_path / "acknowledged"
    for _ in range(8):
        process = context.Process(
            target=write_points, args=(data_dir, run_id, 1, acknowledged), daemon=True
        )
        before = _size(acknowledged)
        process.start()
        _wait_for_more(acknowledged, before + 40)
        process.kill()
        process.join()

        again = RunStore.open(data_dir)
        num_points = len(again.metrics.read(run_id).points)
        again.close()
        assert num_points >= int(acknowledged.read_text().split()[-1])


def test_writers_of_several_runs_do_not_hinder_each_other(
    context: ForkServerContext, store: RunStore, data_dir: Path
) -> None:
    claims = [(store.runs.create(_new()), store.runs.claim("test"))[1] for _ in range(3)]
    processes = [
        context.Process(target=add_points, args=(data_dir, c.run.id, 1, f"train/{n}", 500))
        for c in claims
        if c is not None
        for n in range(2)
    ]
    for process in processes:
        process.start()

    assert _join(processes) == [0] * 6

    for c in claims:
        assert c is not None
        counts = Counter(point.name for point in store.metrics.read(c.run.id).points)
        assert counts == {"train/0": 500, "train/1": 500}


def test_backups_under_load_are_whole(
    context: ForkServerContext, store: RunStore, data_dir: Path, tmp_path: Path
) -> None:
    run_id = store.runs.create(_new()).id
    assert store.runs.claim("test") is not None
    acknowledged = tmp_path / "acknowledged"
    process = context.Process(
        target=write_points, args=(data_dir, run_id, 1, acknowledged), daemon=True
    )
    process.start()
    try:
        for number in range(10):
            seen = _size(acknowledged)
            _wait_for_more(acknowledged, seen)
            sure = int(acknowledged.read_text().split("\n")[-2])
            target = copy_database(data_dir / "store.sqlite", tmp_path / f"backup-{number}")
            connection = sqlite_module().connect(target)
            (count,) = connection.execute("SELECT count(*) FROM metric_points").fetchone()
            connection.close()
            assert count >= sure
            assert count % 5 == 0
    finally:
        process.kill()
        process.join()


def test_the_last_to_finish_is_refused_not_lost(store: RunStore) -> None:
    """Two threads end one attempt at the same moment: one wins, the other is told."""
    run_id = store.runs.create(_new()).id
    assert store.runs.claim("test") is not None
    results: list[str] = []

    def finish(status: RunStatus) -> None:
        try:
            store.runs.finish(run_id, 1, status)
            results.append(str(status))
        except LeaseLostError:
            results.append("refused")

    threads = [
        threading.Thread(target=finish, args=(status,))
        for status in (RunStatus.COMPLETED, RunStatus.FAILED) * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert results.count("refused") == 7
    (winner,) = [result for result in results if result != "refused"]
    assert store.runs.get(run_id).status == winner
