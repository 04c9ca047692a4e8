"""What a person asks of runs, and what the owner of an attempt writes."""

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from storage import RunStore
from storage.errors import (
    DatasetNotFoundError,
    IllegalTransitionError,
    InvalidValueError,
    LeaseLostError,
    RunNotFoundError,
)
from storage.ids import is_random_id, new_id
from storage.records import Claim, ControlRequest, MetricPoint, Progress, RunRecord, RunStatus
from storage.runs import MAX_CRASHES

if TYPE_CHECKING:
    from tests.unit.storage.conftest import Clock

Queue = Callable[..., RunRecord]
Claimed = Callable[..., Claim]


def test_ids_are_80_bits_safe_in_addresses_and_never_twice() -> None:
    ids = {new_id() for _ in range(2_000)}

    assert len(ids) == 2_000
    assert all(is_random_id(text) and len(text) == 16 for text in ids)


def test_create_queues_a_run_with_what_was_asked(store: RunStore, queue: Queue) -> None:
    parent = queue(name="parent")

    run = queue(name="child", parent_id=parent.id, group="seeds", seed=7, device="cuda:1")

    assert store.runs.get(run.id) == run
    assert (run.status, run.control, run.attempt) == (RunStatus.QUEUED, ControlRequest.NONE, 0)
    assert (run.parent_id, run.group, run.seed, run.device) == (parent.id, "seeds", 7, "cuda:1")
    assert run.created_at == run.queued_at == 1_000.0
    assert (run.started_at, run.alive_at, run.lease_until, run.device_slot) == (None,) * 4
    assert store.run_dir(run.id).is_dir()


def test_create_refuses_what_the_store_cannot_keep(store: RunStore, queue: Queue) -> None:
    with pytest.raises(DatasetNotFoundError, match="add it first"):
        queue(dataset_id="b" * 64)
    with pytest.raises(RunNotFoundError):
        queue(parent_id="a" * 16)
    with pytest.raises(InvalidValueError, match="0 steps"):
        queue(num_steps=0)

    assert store.runs.list() == ()


@pytest.mark.parametrize("run_id", ["", "..", "../../etc", "a" * 15, "A" * 16, "a" * 17, "a" * 99])
def test_a_foreign_id_is_no_path(store: RunStore, run_id: str) -> None:
    with pytest.raises(RunNotFoundError):
        store.run_dir(run_id)
    with pytest.raises(RunNotFoundError):
        store.runs.get(run_id)


def test_errors_survive_pickling(store: RunStore) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        store.runs.get("nobody")

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_list_gives_the_newest_first(store: RunStore, queue: Queue) -> None:
    runs = [queue(name=str(number)) for number in range(3)]
    store.runs.delete(runs[1].id)

    assert [run.name for run in store.runs.list()] == ["2", "0"]
    assert [run.name for run in store.runs.list(include_deleted=True)] == ["2", "1", "0"]
    assert [run.name for run in store.runs.list(limit=1)] == ["2"]


def test_rename(store: RunStore, queue: Queue) -> None:
    run = queue()

    assert store.runs.rename(run.id, "better").name == "better"
    assert store.runs.get(run.id).name == "better"
    with pytest.raises(InvalidValueError, match="blank"):
        store.runs.rename(run.id, "  ")
    with pytest.raises(RunNotFoundError):
        store.runs.rename("a" * 16, "x")


def test_renew_keeps_the_lease_and_brings_the_request(
    store: RunStore, claim: Claimed, clock: "Clock"
) -> None:
    run = claim().run
    clock.advance(20)

    assert store.runs.renew(run.id, 1, 60) == ControlRequest.NONE
    after = store.runs.get(run.id)
    assert (after.alive_at, after.lease_until) == (1_020.0, 1_080.0)

    store.runs.request(run.id, ControlRequest.STOP)
    assert store.runs.renew(run.id, 1) == ControlRequest.STOP
    assert store.runs.renew(run.id, 2) is None
    assert store.runs.renew("a" * 16, 1) is None


def test_progress_and_phase(store: RunStore, claim: Claimed, clock: "Clock") -> None:
    run = claim().run
    clock.advance(3)

    store.runs.set_phase(run.id, 1, "training")
    assert store.runs.progress(run.id, 1, Progress(12, 4.5)) == ControlRequest.NONE

    after = store.runs.get(run.id)
    assert (after.phase, after.step, after.steps_per_second) == ("training", 12, 4.5)
    assert after.progress_at == 1_003.0


@pytest.mark.parametrize("status", [s for s in RunStatus if s.is_final])
def test_finish_ends_the_run_and_frees_the_device(
    store: RunStore, claim: Claimed, clock: "Clock", status: RunStatus
) -> None:
    run = claim().run
    clock.advance(7)

    store.runs.finish(
        run.id, 1, status, error_kind="E", error_message="why", peak_memory_bytes=5_000
    )

    after = store.runs.get(run.id)
    assert (after.status, after.ended_at) == (status, 1_007.0)
    assert (after.error_kind, after.error_message) == ("E", "why")
    assert after.peak_memory_bytes == 5_000
    assert (after.device_slot, after.lease_until) == (None, None)
    assert store.devices.list()[0].run_id is None


def test_finish_wants_a_final_status_and_happens_once(store: RunStore, claim: Claimed) -> None:
    run = claim().run
    with pytest.raises(InvalidValueError, match="cannot end as queued"):
        store.runs.finish(run.id, 1, RunStatus.QUEUED)

    store.runs.finish(run.id, 1, RunStatus.COMPLETED)

    with pytest.raises(LeaseLostError, match="it is completed, attempt 1"):
        store.runs.finish(run.id, 1, RunStatus.FAILED)
    assert store.runs.get(run.id).status == RunStatus.COMPLETED


def _fenced_writes(store: RunStore, run_id: str) -> dict[str, Callable[[int], object]]:
    point = MetricPoint("train/loss", 1, 0.5)
    file = store.run_dir(run_id) / "policy.zip"
    file.write_bytes(b"zip")
    return {
        "progress": lambda attempt: store.runs.progress(run_id, attempt, Progress(9, None)),
        "set_phase": lambda attempt: store.runs.set_phase(run_id, attempt, "x"),
        "finish": lambda attempt: store.runs.finish(run_id, attempt, RunStatus.FAILED),
        "crashed": lambda attempt: store.runs.crashed(run_id, attempt, "x", "y", may_retry=True),
        "append": lambda attempt: store.metrics.append(run_id, attempt, [point]),
        "clear_after": lambda attempt: store.metrics.clear_after(run_id, attempt, 0),
        "add_samples": lambda attempt: store.notes.add_samples(run_id, attempt, 1, ["{}"]),
        "add_event": lambda attempt: store.notes.add_event(run_id, attempt, "info", "c", "m"),
        "artifact": lambda attempt: store.artifacts.add(run_id, "k", file, attempt=attempt),
    }


@pytest.mark.parametrize(
    "name",
    [
        "progress",
        "set_phase",
        "finish",
        "crashed",
        "append",
        "clear_after",
        "add_samples",
        "add_event",
        "artifact",
    ],
)
def test_the_fence_refuses_every_write_of_an_old_attempt(
    store: RunStore, claim: Claimed, name: str
) -> None:
    run = claim().run
    store.runs.crashed(run.id, 1, "lost", "killed", may_retry=True)
    write = _fenced_writes(store, run.id)[name]
    with pytest.raises(LeaseLostError, match="it is queued, attempt 1"):
        write(1)
    again = store.runs.claim("other")
    assert again is not None
    assert again.attempt == 2
    before = store.runs.get(run.id)

    with pytest.raises(LeaseLostError, match="attempt 1 does not own run"):
        write(1)
    with pytest.raises(LeaseLostError):
        write(3)

    assert store.runs.get(run.id) == before
    assert store.metrics.read(run.id).points == ()
    assert not store.notes.samples(run.id)
    assert not store.notes.events(run.id)
    assert not store.artifacts.list(run.id)
    write(2)


def test_request_only_presses_harder(store: RunStore, claim: Claimed) -> None:
    run = claim().run
    asked = [
        (ControlRequest.STOP_AND_SAVE, ControlRequest.STOP_AND_SAVE),
        (ControlRequest.KILL, ControlRequest.KILL),
        (ControlRequest.STOP, ControlRequest.KILL),
    ]

    for request, expected in asked:
        assert store.runs.request(run.id, request).control == expected
    with pytest.raises(InvalidValueError, match="asked nothing"):
        store.runs.request(run.id, ControlRequest.NONE)


def test_request_cancels_a_queued_run_which_then_never_starts(
    store: RunStore, queue: Queue
) -> None:
    run = queue()

    cancelled = store.runs.request(run.id, ControlRequest.STOP)

    assert (cancelled.status, cancelled.ended_at) == (RunStatus.CANCELLED, 1_000.0)
    assert cancelled.started_at is None
    assert store.runs.claim("me") is None
    assert store.runs.request(run.id, ControlRequest.KILL) == cancelled, "asking again is harmless"


def test_a_crash_is_tried_again_a_few_times(store: RunStore, claim: Claimed) -> None:
    run = claim().run
    for crash in range(1, MAX_CRASHES + 1):
        status = store.runs.crashed(run.id, crash, "lost", f"death {crash}", may_retry=True)
        assert status == RunStatus.QUEUED
        waiting = store.runs.get(run.id)
        assert (waiting.num_crashes, waiting.error_message) == (crash, f"death {crash}")
        assert store.runs.claim("me") is not None

    last = store.runs.crashed(run.id, MAX_CRASHES + 1, "lost", "the last", may_retry=True)

    assert last == RunStatus.FAILED
    assert store.runs.claim("me") is None
    resumed = store.runs.requeue(run.id)
    assert (resumed.status, resumed.num_crashes, resumed.error_kind) == (RunStatus.QUEUED, 0, "")


def test_a_crash_that_may_not_be_retried_fails(store: RunStore, claim: Claimed) -> None:
    run = claim().run

    assert store.runs.crashed(run.id, 1, "lost", "m", may_retry=False) == RunStatus.FAILED
    assert store.runs.get(run.id).error_kind == "lost"


def test_a_crash_after_a_stop_was_asked_is_a_stop(store: RunStore, claim: Claimed) -> None:
    run = claim().run
    store.runs.request(run.id, ControlRequest.STOP)

    assert store.runs.crashed(run.id, 1, "killed", "m", may_retry=True) == RunStatus.CANCELLED


def test_requeue_resumes_a_finished_run_only(
    store: RunStore, claim: Claimed, clock: "Clock"
) -> None:
    run = claim().run
    with pytest.raises(IllegalTransitionError, match="is running"):
        store.runs.requeue(run.id)
    store.runs.progress(run.id, 1, Progress(100, 1.0))
    store.runs.finish(run.id, 1, RunStatus.COMPLETED)
    with pytest.raises(InvalidValueError):
        store.runs.requeue(run.id, num_steps=0)
    clock.advance(60)

    resumed = store.runs.requeue(run.id, num_steps=200)

    assert (resumed.status, resumed.num_steps, resumed.step) == (RunStatus.QUEUED, 200, 100)
    assert (resumed.queued_at, resumed.ended_at) == (1_060.0, None)
    again = store.runs.claim("me")
    assert again is not None
    assert again.attempt == 2
    with pytest.raises(IllegalTransitionError, match="is running"):
        store.runs.requeue(run.id)


def test_delete_and_restore(store: RunStore, queue: Queue, clock: "Clock") -> None:
    run = queue()
    clock.advance(1)

    deleted = store.runs.delete(run.id)
    clock.advance(1)

    assert (deleted.deleted_at, deleted.status) == (1_001.0, RunStatus.CANCELLED)
    assert store.runs.delete(run.id) == deleted
    assert store.runs.list() == ()
    with pytest.raises(IllegalTransitionError, match="restore it"):
        store.runs.requeue(run.id)
    assert store.runs.claim("me") is None
    assert store.runs.restore(run.id).deleted_at is None
    assert [found.id for found in store.runs.list()] == [run.id]
    assert store.runs.requeue(run.id).status == RunStatus.QUEUED


def test_a_running_run_cannot_be_deleted(store: RunStore, claim: Claimed) -> None:
    run = claim().run

    with pytest.raises(IllegalTransitionError, match="stop it before deleting"):
        store.runs.delete(run.id)
    with pytest.raises(IllegalTransitionError, match="delete it before purging"):
        store.runs.purge(run.id)


def test_purge_removes_rows_and_files_for_good(
    store: RunStore, claim: Claimed, queue: Queue
) -> None:
    run = claim().run
    for write in _fenced_writes(store, run.id).values():
        if store.runs.get(run.id).status == RunStatus.RUNNING:
            write(1)
    child = queue(parent_id=run.id)
    store.runs.request(run.id, ControlRequest.KILL)
    store.runs.delete(run.id)

    store.runs.purge(run.id)

    with pytest.raises(RunNotFoundError):
        store.runs.get(run.id)
    assert not store.notes.events(run.id)
    assert not store.artifacts.list(run.id)
    assert store.metrics.names(run.id) == ()
    assert not store.run_dir(run.id).exists()
    assert store.runs.get(child.id).parent_id is None
