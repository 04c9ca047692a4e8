"""Tasks of the worker lane."""

from typing import TYPE_CHECKING

import pytest

from storage import RunStore
from storage.errors import IllegalTransitionError, InvalidValueError, TaskNotFoundError
from storage.records import TaskOutput, TaskStatus

if TYPE_CHECKING:
    from tests.unit.storage.conftest import Clock


def test_a_task_runs_its_course(store: RunStore, clock: "Clock") -> None:
    task = store.tasks.submit("generate", '{"prompts": []}')
    assert store.tasks.has_queued()
    clock.advance(1)

    claimed = store.tasks.claim("lane")
    assert claimed is not None
    assert (claimed.id, claimed.status) == (task.id, TaskStatus.RUNNING)
    assert claimed.started_at == 1_001.0
    assert store.tasks.claim("lane") is None
    assert not store.tasks.has_queued()
    assert store.tasks.append(task.id, "one")
    assert store.tasks.append(task.id, "two")
    store.tasks.finish(task.id, TaskStatus.COMPLETED)

    assert store.tasks.output(task.id) == (TaskOutput(1, "one"), TaskOutput(2, "two"))
    assert store.tasks.output(task.id, after=1) == (TaskOutput(2, "two"),)
    done = store.tasks.get(task.id)
    assert (done.status, done.ended_at) == (TaskStatus.COMPLETED, 1_001.0)


def test_tasks_are_claimed_in_order_and_listed_newest_first(store: RunStore) -> None:
    ids = [store.tasks.submit(kind, "{}").id for kind in ("a", "b", "a")]

    claimed = [store.tasks.claim("lane") for _ in ids]

    assert [task.id for task in claimed if task] == ids
    assert [task.id for task in store.tasks.list()] == ids[::-1]
    assert [task.id for task in store.tasks.list("a")] == [ids[2], ids[0]]
    assert len(store.tasks.list(limit=1)) == 1


def test_cancel(store: RunStore) -> None:
    queued, running = store.tasks.submit("a", "{}"), store.tasks.submit("a", "{}")
    assert store.tasks.cancel(queued.id).status == TaskStatus.CANCELLED
    assert store.tasks.claim("lane") is not None

    assert store.tasks.cancel(running.id).is_cancel_requested
    assert store.tasks.get(running.id).status == TaskStatus.RUNNING
    assert not store.tasks.append(running.id, "stop?")
    store.tasks.finish(running.id, TaskStatus.CANCELLED)
    assert store.tasks.cancel(running.id).status == TaskStatus.CANCELLED


def test_a_task_that_is_not_running_takes_no_output_and_no_end(store: RunStore) -> None:
    task = store.tasks.submit("a", "{}")
    with pytest.raises(IllegalTransitionError, match="is queued"):
        store.tasks.append(task.id, "x")
    with pytest.raises(IllegalTransitionError, match="is queued"):
        store.tasks.finish(task.id, TaskStatus.COMPLETED)
    store.tasks.claim("lane")
    with pytest.raises(InvalidValueError, match="cannot end as queued"):
        store.tasks.finish(task.id, TaskStatus.QUEUED)
    store.tasks.finish(task.id, TaskStatus.FAILED, "why")

    assert store.tasks.get(task.id).error_message == "why"
    with pytest.raises(IllegalTransitionError, match="is failed"):
        store.tasks.finish(task.id, TaskStatus.COMPLETED)


def test_a_task_that_a_lane_died_on_starts_over_once(store: RunStore) -> None:
    task = store.tasks.submit("a", "{}")
    store.tasks.claim("lane-1")
    store.tasks.append(task.id, "half")

    assert store.tasks.requeue_lost("lane-2") == 1
    assert store.tasks.output(task.id) == ()
    assert store.tasks.claim("lane-2") is not None
    assert store.tasks.requeue_lost("lane-2") == 0, "its own is not lost"
    store.tasks.append(task.id, "again")
    assert store.tasks.output(task.id, after=1) == (TaskOutput(2, "again"),)

    assert store.tasks.requeue_lost("lane-3") == 0
    lost = store.tasks.get(task.id)
    assert lost.status == TaskStatus.FAILED
    assert "died 2 times" in lost.error_message


def test_a_lost_task_that_was_asked_to_stop_is_cancelled(store: RunStore) -> None:
    task = store.tasks.submit("a", "{}")
    store.tasks.claim("lane-1")
    store.tasks.cancel(task.id)

    assert store.tasks.requeue_lost("lane-2") == 0
    assert store.tasks.get(task.id).status == TaskStatus.CANCELLED


def test_purge_removes_what_ended_long_ago(store: RunStore, clock: "Clock") -> None:
    old = store.tasks.submit("a", "{}")
    store.tasks.claim("lane")
    store.tasks.append(old.id, "x")
    store.tasks.finish(old.id, TaskStatus.COMPLETED)
    clock.advance(100)
    waiting = store.tasks.submit("a", "{}")

    assert store.tasks.purge(before=1_050.0) == 1

    assert [task.id for task in store.tasks.list()] == [waiting.id]
    assert store.tasks.output(old.id) == ()


def test_unknown_ids(store: RunStore) -> None:
    for ask in (store.tasks.get, store.tasks.cancel):
        with pytest.raises(TaskNotFoundError):
            ask("nothing")
    with pytest.raises(TaskNotFoundError):
        store.tasks.append("nothing", "x")
    assert store.tasks.output("nothing") == ()
