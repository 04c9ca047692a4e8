"""Where a run may train, with how many threads, and on which base models."""

from collections.abc import Callable
from pathlib import Path

import pytest

from seqmatch.jobs.allowed_models import allow_models, allowed_models, set_allowed_models
from seqmatch.jobs.device_slots import visible_gpus
from seqmatch.jobs.executors import LocalExecutor
from seqmatch.jobs.lane_process import LaneProcess
from seqmatch.jobs.runner import Runner
from seqmatch.jobs.trainer_threads import trainer_threads
from storage import RunStore
from storage.records import NewRun, RunRecord, RunStatus

Queue = Callable[[str], RunRecord]


@pytest.fixture
def queue(store: RunStore) -> Queue:
    def create(device: str) -> RunRecord:
        model = "byte-llama-small"
        new = NewRun("r", "{}", "sft", "", model, "a" * 64, 0, 10, device=device)
        return store.runs.create(new)

    return create


def test_an_impossible_device_fails_with_what_there_is(store: RunStore, queue: Queue) -> None:
    lane = LaneProcess(store.data_dir, 1)
    executor = LocalExecutor(store.data_dir, trainer="none", num_threads=lambda _: 1)
    runner = Runner(store, executor, lane, ["cuda:0", "cpu:0"])
    run, possible = queue("cuda:3"), queue("cuda")
    too_many, on_one_cpu = queue("cuda,cuda"), queue("cpu,cpu")
    runner._fail_impossible()
    assert store.runs.get(too_many.id).error_kind == "no device"
    assert store.runs.get(on_one_cpu.id).status is RunStatus.QUEUED
    ended = store.runs.get(run.id)
    assert (ended.status, ended.error_kind) == (RunStatus.FAILED, "no device")
    message = "There is no device 'cuda:3' here; there is cuda:0, cpu:0, or 'auto'."
    assert ended.error_message == message
    assert store.runs.get(possible.id).status is RunStatus.QUEUED


def test_a_gpu_machine_has_the_cpu_for_who_asks(store: RunStore, queue: Queue) -> None:
    store.devices.set_slots(["cuda:0", "cpu:0"])
    for device in ("auto", "auto", "cpu"):
        queue(device)
    first, second = store.runs.claim("t"), store.runs.claim("t")
    assert first is not None
    assert second is not None
    assert (first.device_slot, second.device_slot) == ("cuda:0", "cpu:0")
    assert second.run.device == "cpu", "auto waits for the GPU"


def test_a_trainer_sees_the_gpus_of_its_slots() -> None:
    assert visible_gpus("auto", "cuda:3") == "3"
    assert visible_gpus("cuda,cuda", "cuda:2,cuda:0:1") == "2,0"
    assert visible_gpus("cuda:2,cuda:0", "cuda:2,cuda:0") is None, "named ones keep their numbers"
    assert visible_gpus("cpu,cpu", "cpu:0") == ""


def test_small_models_get_one_thread() -> None:
    assert trainer_threads("byte-llama-small", 8, 1) == 1
    assert trainer_threads("smollm2-135m-instruct", 8, 2) == 4
    assert trainer_threads("/models/mine", 8, 1) == 8


def test_the_operators_list_is_one(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    assert allowed_models(store) == ()
    set_allowed_models(store, ["hub/a"])
    allow_models(store, ["tiny", "hub/a"])
    assert allowed_models(store) == ("hub/a", str(tmp_path / "tiny"))
    set_allowed_models(store, [])
    assert allowed_models(store) == ()
