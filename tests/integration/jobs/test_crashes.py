"""Kills at random moments; each run must end as its twin that nobody killed.

Seeds are fixed: which process is killed and after what fraction of a run is the same every time;
what it hits depends on the machine.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial

import psutil
import pytest

from seqmatch.jobs import attempt_files
from seqmatch.jobs.locks import is_held
from storage.records import RunStatus
from tests.integration.jobs.shop import Shop, until

NUM_STEPS = 60
MAX_KILLS = 3  # by itself a run starts again so often


def send_kill(pid: int | None) -> bool:
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def kill_trainer(shop: Shop, run_id: str) -> bool:
    return send_kill(shop.trainer_pid(run_id))


def kill_shim(shop: Shop, run_id: str) -> bool:
    return send_kill(shop.shim_pid(run_id))


def kill_runner(shop: Shop, run_id: str) -> bool:
    for runner in shop.runners:
        runner.kill()
        runner.wait()
    return True


def kill_group(shop: Shop, run_id: str) -> bool:
    """What the machine does when it takes everything of a job: shim, then trainer."""
    return send_kill(shop.shim_pid(run_id)) | send_kill(shop.trainer_pid(run_id))


def kill_all(shop: Shop, run_id: str) -> bool:
    return kill_runner(shop, run_id) | kill_group(shop, run_id)


KILLS: tuple[Callable[[Shop, str], bool], ...] = (
    kill_trainer,
    kill_shim,
    kill_runner,
    kill_group,
    kill_all,
)


@pytest.mark.parametrize("seed", range(2))
def test_killed_runs_end_as_their_twins(shop: Shop, seed: int) -> None:
    chance = random.Random(seed)
    twin = shop.queue("twin family", num_steps=NUM_STEPS, seed=seed)
    shop.ensure_runner()
    assert shop.finished(twin.id).status is RunStatus.COMPLETED

    run = shop.queue("killed family", num_steps=NUM_STEPS, seed=seed)
    kills = 0
    for _ in range(4):
        shop.ensure_runner()
        how = chance.choice(KILLS)
        if shop.run(run.id).num_crashes >= MAX_KILLS:
            how = kill_runner
        until(lambda: shop.run(run.id).status is not RunStatus.QUEUED, "started")
        time.sleep(chance.uniform(0.0, 1.5))
        if shop.run(run.id).status.is_final:
            break
        kills += how(shop, run.id)
    shop.ensure_runner()
    done = shop.finished(run.id)
    assert done.status is RunStatus.COMPLETED, done.error_message
    assert done.attempt <= kills + 1
    assert shop.curve(run.id) == shop.curve(twin.id)
    assert sorted(shop.curve(run.id)) == list(range(1, NUM_STEPS + 1))
    (end,), (twin_end,) = (shop.store.artifacts.list(each.id) for each in (run, twin))
    assert end.sha256 == twin_end.sha256
    assert shop.runners[-1].wait(timeout=30) == 0
    until(lambda: shop.processes() == [], "no process is left")
    shop.assert_nothing_left()
    unfinished = list(shop.data_dir.glob("runs/*/checkpoints/.*"))
    assert unfinished == []


def trains(shop: Shop, run_id: str, attempt: int) -> bool:
    run = shop.run(run_id)
    return run.attempt == attempt and run.progress_at is not None


def test_a_run_that_dies_each_time_is_given_up_and_says_so(shop: Shop) -> None:
    run = shop.queue(num_steps=100_000, checkpoints={"every": 100_000})
    shop.start_runner()
    for attempt in range(1, 5):
        until(partial(trains, shop, run.id, attempt), f"attempt {attempt} trains")
        kill_trainer(shop, run.id)
    done = shop.finished(run.id)
    assert (done.status, done.error_kind, done.num_crashes) == (RunStatus.FAILED, "killed:9", 4)
    assert "SIGKILL" in done.error_message
    assert len([e for e in shop.store.notes.events(run.id) if e.code == "attempt_died"]) == 4
    shop.assert_nothing_left()


def test_a_runner_that_comes_back_adopts_what_runs(shop: Shop) -> None:
    run = shop.queue(num_steps=200)
    shop.start_runner()
    until(lambda: shop.run(run.id).step >= 3, "training began")
    before = shop.trainer_pid(run.id)
    for _ in range(3):
        kill_runner(shop, run.id)
        shop.start_runner()
    assert shop.finished(run.id).attempt == 1
    assert shop.trainer_pid(run.id) == before


def test_an_orphan_is_seen_ended_and_resumed(shop: Shop) -> None:
    run = shop.queue("family", num_steps=600)
    shop.start_runner()
    until(lambda: shop.run(run.id).step >= 3, "training began")
    trainer = psutil.Process(shop.trainer_pid(run.id))
    shop_dir = shop.store.run_dir(run.id)
    kill_shim(shop, run.id)
    until(lambda: not is_held(shop_dir / attempt_files.SHIM_LOCK), "the shim is gone")
    assert shop.finished(run.id).status is RunStatus.COMPLETED
    assert not trainer.is_running()
    assert shop.run(run.id).attempt == 2
    assert sorted(shop.curve(run.id)) == list(range(1, 601))
