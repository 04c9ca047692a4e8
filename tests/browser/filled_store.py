"""A store with a few realistic runs, so that pages can be looked at without training."""

import json
import math
import random
from dataclasses import asdict
from pathlib import Path

from seqmatch.config import DataConfig, OptimizationConfig, RunConfig
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.reporting import Trace
from storage import RunStore
from storage.records import MetricPoint, NewRun, Progress, RunRecord, RunStatus

DATASET = "a" * 64
BACKSPACE = 259
HOSTILE_NAME = "<img src=x onerror=alert(1)> ${7*7} {{7*7}} & friends"


def fill(store: RunStore) -> dict[str, str]:
    """Adds a set and runs in every state; returns the runs' ids by what they are."""
    summary = json.dumps({"example": "arithmetic"})
    store.datasets.add(DATASET, "Three-digit addition", 5500, 0, summary)
    store.devices.set_slots(["cpu:0"])
    ids = {
        "sft": _finish(store, _new(store, "SFT on additions", is_matching=False), 0.02),
        "matching": _finish(
            store, _new(store, "SequenceMatch on additions", is_matching=True), 0.12
        ),
    }
    failed = _new(store, HOSTILE_NAME, is_matching=True)
    ids["failed"] = _fail(store, failed)
    ids["running"] = _run(store, _new(store, "SequenceMatch, smaller alpha", is_matching=True))
    ids["queued"] = _new(store, "SFT, seed 1", is_matching=False).id
    return ids


def _new(store: RunStore, name: str, *, is_matching: bool) -> RunRecord:
    objective = SequenceMatchConfig() if is_matching else SFTConfig()
    config = RunConfig(
        name=name[:120],
        data=DataConfig(dataset=DATASET),
        objective=objective,
        optimization=OptimizationConfig(num_steps=3000),
    )
    return store.runs.create(
        NewRun(
            name=name,
            config_json=config.model_dump_json(),
            objective=objective.kind,
            divergence="chi_square_mixture" if is_matching else "",
            base_model=config.base_model,
            dataset_id=DATASET,
            seed=0,
            num_steps=3000,
        )
    )


def _claim(store: RunStore, run: RunRecord) -> int:
    claim = store.runs.claim("filled-store")
    assert claim is not None
    assert claim.run.id == run.id
    folder = store.run_dir(run.id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attempt-1.log").write_text("loading model\nstep 10: loss 12.3 <b>bold</b>\n")
    return claim.attempt


def curve_points(last_step: int, shift: float) -> list[MetricPoint]:
    """Returns points shaped like those of a run on arithmetic."""
    noise = random.Random(int(shift * 1000))
    points = []
    for step in range(10, last_step + 1, 10):
        share = step / 3000
        values = {
            "train/loss": 9 * math.exp(-4 * share) + 0.3 + noise.gauss(0, 0.1),
            "train/bc_loss": 8 * math.exp(-4 * share) + 0.2 + noise.gauss(0, 0.1),
            "train/td_data": 1.8 * math.exp(-2 * share) + shift + abs(noise.gauss(0, 0.05)),
            "train/grad_norm": 1 + abs(noise.gauss(0, 0.4)),
            "system/tokens_per_second": 9000 + noise.gauss(0, 600),
        }
        if shift > 0.05:
            values["train/sm_loss"] = 7 * math.exp(-3 * share) - shift + noise.gauss(0, 0.1)
            values["train/data_penalty"] = 0.4 * share + abs(noise.gauss(0, 0.02))
            values["train/mixture_penalty"] = 0.2 * share + abs(noise.gauss(0, 0.02))
        if step % 250 == 0:
            values |= {
                "eval/nll": 1.9 * math.exp(-3.5 * share) + 0.01 + shift / 10,
                "eval/td": 1.6 * math.exp(-2 * share) + shift,
                "eval/value_start": 4 + share,
                "eval/value_end": 1 - share,
                "eval/exact_match": 1 - math.exp(-5 * share),
                "rollout/length": 4 + noise.gauss(0, 0.1),
            }
            if shift > 0.05:
                values["eval/divergence"] = 1.6 * math.exp(-3 * share)
                values["rollout/backspace_rate"] = 0.12 * math.exp(-share)
        points += [MetricPoint(name, step, value) for name, value in values.items()]
    return points


def sample_traces(step: int) -> list[str]:
    """Returns two sampled answers as the worker stores them: one with a deletion, one without."""
    eos = 257
    edited = Trace(
        prompt="123+456=",
        actions=(ord("5"), ord("8"), BACKSPACE, ord("7"), ord("9"), eos),
        pieces=("5", "8", "", "7", "9", ""),
        text="579",
        num_backspaces=1,
        is_finished=True,
        reference="579",
    )
    plain = Trace("999+1=", tuple(map(ord, "<b>0")), tuple("<b>0"), "<b>0", 0, step > 500, "1000")
    return [json.dumps(asdict(edited)), json.dumps(asdict(plain))]


def _report(store: RunStore, run: RunRecord, attempt: int, last_step: int, shift: float) -> None:
    store.metrics.append(run.id, attempt, curve_points(last_step, shift))
    for step in range(250, last_step + 1, 250):
        store.notes.add_samples(run.id, attempt, step, sample_traces(step))
    store.runs.progress(run.id, attempt, Progress(last_step, 12.5))


def _finish(store: RunStore, run: RunRecord, shift: float) -> str:
    attempt = _claim(store, run)
    _report(store, run, attempt, 3000, shift)
    adapter = store.run_dir(run.id) / "adapter.zip"
    adapter.write_bytes(b"PK" + bytes(4000))
    policy = store.run_dir(run.id) / "policy"
    policy.mkdir()
    (policy / "seqmatch.json").write_text("{}")
    store.artifacts.add(run.id, "adapter_zip", adapter)
    store.notes.add_event(run.id, attempt, "info", "saved", "The adapter is ready.")
    store.runs.finish(run.id, attempt, RunStatus.COMPLETED, peak_memory_bytes=595_000_000)
    return run.id


def _fail(store: RunStore, run: RunRecord) -> str:
    attempt = _claim(store, run)
    _report(store, run, attempt, 600, 0.3)
    store.notes.add_event(run.id, attempt, "error", "out_of_memory", "The trainer was killed.")
    store.runs.finish(
        run.id,
        attempt,
        RunStatus.FAILED,
        error_kind="out of memory",
        error_message="The system ended the trainer at 23.8 GB.\nTry a smaller batch size.",
    )
    return run.id


def _run(store: RunStore, run: RunRecord) -> str:
    attempt = _claim(store, run)
    store.runs.set_phase(run.id, attempt, "training")
    _report(store, run, attempt, 1200, 0.2)
    return run.id


def filled(data_dir: Path) -> dict[str, str]:
    """Makes a filled store in a folder; returns the runs' ids by what they are."""
    store = RunStore.open(data_dir)
    try:
        return fill(store)
    finally:
        store.close()
