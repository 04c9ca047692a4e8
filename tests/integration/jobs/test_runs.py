"""Runs from queue to end, with real processes."""

import json
import subprocess
from functools import partial

import pytest

from seqmatch.jobs.supervisor import hold_web_lock
from storage.records import ControlRequest, RunStatus
from tests.integration.jobs.shop import Shop, until


def _has_begun(shop: Shop, run_id: str) -> bool:
    return shop.run(run_id).step >= 3


def test_a_queued_run_is_trained_to_its_end(shop: Shop) -> None:
    run = shop.queue(num_steps=40)
    runner = shop.start_runner()
    done = shop.finished(run.id)
    assert done.status is RunStatus.COMPLETED, done.error_message
    assert (done.step, done.attempt, done.num_crashes) == (40, 1, 0)
    assert list(shop.curve(run.id)) == list(range(1, 41))
    assert done.peak_memory_bytes
    assert done.peak_memory_bytes > 10_000_000
    assert [a.kind for a in shop.store.artifacts.list(run.id)] == ["adapter_zip"]
    sample = json.loads(shop.store.notes.samples(run.id, 10)[0].payload_json)
    assert sample["text"] == "ab"
    shop.store.runs.requeue(run.id, num_steps=50)  # a finished run may go further
    shop.ensure_runner()
    assert shop.finished(run.id).step == 50
    assert list(shop.curve(run.id)) == list(range(1, 51))
    assert runner.wait(timeout=30) == 0  # nothing to do, and no page is open
    assert shop.runners[-1].wait(timeout=30) == 0  # another one, where the first had gone
    shop.assert_nothing_left()
    assert shop.processes() == []


def test_an_error_of_training_ends_the_run_with_its_words(shop: Shop) -> None:
    run, hungry, left = shop.queue("raise"), shop.queue("memory"), shop.queue("exit")
    shop.start_runner()
    done = shop.finished(run.id)
    assert (done.status, done.error_kind) == (RunStatus.FAILED, "ValueError")
    assert done.error_message == "the rows are upside down"
    assert done.num_crashes == 0
    done = shop.finished(hungry.id)
    assert (done.status, done.error_kind) == (RunStatus.FAILED, "out of memory")
    assert "smaller batch" in done.error_message
    done = shop.finished(left.id)
    assert (done.status, done.error_kind) == (RunStatus.FAILED, "exit")
    assert "exit code 7" in done.error_message
    assert "I leave" in done.error_message
    shop.assert_nothing_left()


def test_stop_discards_stop_and_save_saves_and_both_can_be_resumed(shop: Shop) -> None:
    for control in (ControlRequest.STOP, ControlRequest.STOP_AND_SAVE):
        run = shop.queue(num_steps=10_000, checkpoints={"every": 100_000})
        shop.ensure_runner()
        until(partial(_has_begun, shop, run.id), "training began")
        shop.store.runs.request(run.id, control)
        done = shop.finished(run.id)
        assert (done.status, done.num_crashes) == (RunStatus.CANCELLED, 0)
        saved = list((shop.store.run_dir(run.id) / "checkpoints").glob("step-*"))
        assert len(saved) == (control is ControlRequest.STOP_AND_SAVE)
        steps = done.step + 5
        shop.store.runs.requeue(run.id, num_steps=steps)
        shop.ensure_runner()
        assert shop.finished(run.id).status is RunStatus.COMPLETED
        assert sorted(shop.curve(run.id)) == list(range(1, steps + 1))
    shop.assert_nothing_left()


def test_kill_ends_a_trainer_that_hears_nothing_and_its_children(shop: Shop) -> None:
    run = shop.queue("deaf family", num_steps=100_000)
    shop.start_runner()
    until(lambda: shop.run(run.id).step >= 3, "training began")
    shop.store.runs.request(run.id, ControlRequest.STOP)
    shop.store.runs.request(run.id, ControlRequest.KILL)
    done = shop.finished(run.id)
    assert done.status is RunStatus.CANCELLED
    until(lambda: shop.processes() == [], "no process is left")
    shop.assert_nothing_left()


def test_a_log_that_grows_too_long_starts_over(shop: Shop) -> None:
    run = shop.queue("chatty", num_steps=120)
    shop.start_runner()
    assert shop.finished(run.id).status is RunStatus.COMPLETED
    folder = shop.store.run_dir(run.id)
    total = sum(path.stat().st_size for path in folder.glob("attempt-1.log*"))
    assert 0 < total < 11 << 20


def test_the_page_may_die_and_the_runner_waits_for_an_open_page(shop: Shop) -> None:
    runner = shop.start_runner()
    page = hold_web_lock(shop.data_dir)
    with pytest.raises(subprocess.TimeoutExpired):
        runner.wait(timeout=4)  # idle for longer than --idle-seconds, but a page is open
    page.close()
    assert runner.wait(timeout=30) == 0


def test_two_runners_are_one(shop: Shop) -> None:
    run = shop.queue(num_steps=60)
    page = hold_web_lock(shop.data_dir)  # so that the first one does not end by itself
    first = shop.start_runner()
    until(lambda: shop.run(run.id).step > 0, "training began")
    assert shop.start_runner().wait(timeout=30) == 0
    assert first.poll() is None
    assert shop.finished(run.id).attempt == 1
    page.close()
