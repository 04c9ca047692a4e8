"""A run on two processes under the runner: completed, cancelled, and with one of them killed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from seqmatch.jobs import attempt_files
from seqmatch.jobs.environment import child_environment, python_module
from seqmatch.jobs.process_tokens import living, read_identity
from seqmatch.jobs.worker import TRAINER
from storage.records import ControlRequest, RunStatus
from tests.integration.jobs.shop import Shop, until

TWO: dict[str, Any] = {
    "device": "cpu,cpu",
    "objective": {"kind": "sft"},
    "optimization": {"num_steps": 24, "batch_size": 4, "warmup_steps": 2},
    "evaluation": {"every": 12, "num_prompts": 4, "max_new_tokens": 4, "num_samples": 2},
    "checkpoints": {"every": 6},
}
LONG = TWO | {"optimization": {"num_steps": 100_000, "batch_size": 4}}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "data", trainer=TRAINER)
    yield made
    made.close()


def trainers(shop: Shop, run_id: str) -> dict[int, psutil.Process]:
    """The living processes of a run's trainer, by their number."""
    run = shop.run(run_id)
    path = attempt_files.identity_path(shop.store.run_dir(run_id), run.attempt)
    identity = read_identity(path)
    if identity is None:
        return {}
    return {int(each.environ().get("RANK", "0")): each for each in living(identity.token)}


def has_checkpoint(shop: Shop, run_id: str, step: int) -> bool:
    return (shop.store.run_dir(run_id) / "checkpoints" / f"step-{step:08d}").exists()


@pytest.mark.slow
def test_a_killed_process_starts_them_all_again_from_the_checkpoint(shop: Shop) -> None:
    run_id = shop.queue("two", **TWO).id
    shop.start_runner("--idle-seconds", "5")

    until(partial(has_checkpoint, shop, run_id, 6), "saved", 120)
    attempt = shop.run(run_id).attempt
    if not shop.run(run_id).status.is_final:
        os.kill(trainers(shop, run_id)[1].pid, signal.SIGKILL)
    done = shop.finished(run_id, 120)

    assert done.status is RunStatus.COMPLETED, done.error_message
    assert done.attempt == attempt + 1
    told = [event.message for event in shop.store.notes.events(run_id)]
    assert any("Process 2 of 2 of the trainer was ended by SIGKILL" in each for each in told)
    assert list(shop.curve(run_id)) == list(range(1, 25)), "no gap, no double point"
    shop.assert_nothing_left()
    assert not list(shop.store.run_dir(run_id).glob("rendezvous-*"))


@pytest.mark.slow
def test_a_stop_ends_both_and_nothing_of_them_is_left(shop: Shop) -> None:
    run_id = shop.queue("long", **LONG).id
    shop.start_runner()
    until(lambda: shop.run(run_id).step > 3, "it trains", 120)
    processes = trainers(shop, run_id)
    assert sorted(processes) == [0, 1]

    shop.store.runs.request(run_id, ControlRequest.STOP_AND_SAVE)
    ended = shop.finished(run_id, 120)

    assert ended.status is RunStatus.CANCELLED, ended.error_message
    assert [each.kind for each in shop.store.artifacts.list(run_id)] == ["adapter_zip"]
    assert not any(each.is_running() for each in processes.values())
    shop.assert_nothing_left()


def test_by_hand_a_run_trains_on_machines_with_copies_of_the_store(
    shop: Shop, tmp_path: Path
) -> None:
    settings = TWO | {"device": "cpu", "optimization": {"num_steps": 3, "batch_size": 4}}
    run_id = shop.queue("by hand", **settings).id
    copied = tmp_path / "another machine"
    shutil.copytree(shop.data_dir, copied)

    started = [
        subprocess.Popen(
            python_module("seqmatch.jobs.by_hand", "--data-dir", str(data_dir), "--run", run_id),
            env=child_environment(
                RANK=str(rank),
                LOCAL_RANK="0",
                WORLD_SIZE="2",
                LOCAL_WORLD_SIZE="1",
                SEQMATCH_RENDEZVOUS=str(tmp_path / "rendezvous"),
                OMP_NUM_THREADS="1",
            ),
        )
        for rank, data_dir in enumerate((shop.data_dir, copied))
    ]
    assert [process.wait(120) for process in started] == [0, 0]

    done = shop.run(run_id)
    assert (done.status, done.attempt, done.runner) == (RunStatus.COMPLETED, 1, "by hand")
    assert list(shop.curve(run_id)) == [1, 2, 3]
    assert not (copied / "runs" / run_id / "checkpoints").exists()
    shop.assert_nothing_left()
