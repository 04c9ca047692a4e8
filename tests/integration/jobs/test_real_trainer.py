"""The real trainer under kills: a tiny run of the from-scratch model, on real rows."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from seqmatch.jobs.task_types import GenerateChunk, GenerateRequest, PolicyRef
from seqmatch.jobs.worker import TRAINER
from storage.records import RunStatus, TaskStatus
from tests.integration.jobs.shop import Shop, until


def _is_saved_or_over(shop: Shop, run_id: str, saved: Path) -> bool:
    return saved.exists() or shop.run(run_id).status.is_final


def _has_another_trainer(shop: Shop, run_id: str, pid: int) -> bool:
    return shop.trainer_pid(run_id) != pid


# How long something took, or how much it needed, differs between any two runs.
TIMED = ("system/",)


def curves(shop: Shop, run_id: str) -> dict[tuple[str, int], float | None]:
    points = shop.store.metrics.read(run_id).points
    kept = [point for point in points if not point.name.startswith(TIMED)]
    assert len({(point.name, point.step) for point in kept}) == len(kept)
    return {(point.name, point.step): point.value for point in kept}


def queue(shop: Shop, name: str) -> str:
    return shop.queue(
        name,
        num_steps=24,
        objective={"kind": "sft"},
        optimization={"num_steps": 24, "batch_size": 4, "warmup_steps": 2},
        evaluation={"every": 12, "num_prompts": 4, "max_new_tokens": 4, "num_samples": 2},
        checkpoints={"every": 6},
    ).id


@pytest.mark.slow
def test_a_killed_run_ends_with_the_curves_of_its_twin_and_answers(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data", trainer=TRAINER)
    try:
        twin, run_id = queue(shop, "twin"), queue(shop, "killed")
        shop.start_runner("--idle-seconds", "5")
        assert shop.finished(twin, 120).status is RunStatus.COMPLETED, shop.run(twin)
        folder = shop.store.run_dir(run_id) / "checkpoints"
        for step in (6, 12):
            saved = folder / f"step-{step:08d}"
            until(partial(_is_saved_or_over, shop, run_id, saved), "saved")
            pid = shop.trainer_pid(run_id)
            if pid is not None and not shop.run(run_id).status.is_final:
                os.kill(pid, signal.SIGKILL)
                until(partial(_has_another_trainer, shop, run_id, pid), "another trainer is there")
        done = shop.finished(run_id, 120)
        assert done.status is RunStatus.COMPLETED, done.error_message
        assert curves(shop, run_id) == curves(shop, twin)
        assert [each.kind for each in shop.store.artifacts.list(run_id)] == ["adapter_zip"]

        ref = PolicyRef(kind="run", run_id=run_id, label="killed")
        asked = GenerateRequest(prompts=["1+1="], policies=[ref], backspace=[True, False])
        task = shop.store.tasks.submit("generate", asked.model_dump_json())
        shop.ensure_runner()
        until(lambda: shop.store.tasks.get(task.id).ended_at, "answered")
        assert shop.store.tasks.get(task.id).status is TaskStatus.COMPLETED
        outputs = shop.store.tasks.output(task.id)
        chunks = [GenerateChunk.model_validate_json(output.payload_json) for output in outputs]
        assert [chunk.error for chunk in chunks if chunk.is_done] == [None, None]
    finally:
        shop.close()
