"""A small real trainer without torch: numpy weights, a real generator, real checkpoints.

Its step is a pure function of the state, so a run that was killed must end as one that was not.
What it does besides is chosen by words in the run's name.
"""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from seqmatch.checkpoints import newest_verified, publish
from seqmatch.reporting import Control, Trace

STEP_SECONDS = 0.01
FAMILY = "import time; time.sleep(600)"


def train(
    config: Any, demonstrations: Any, *, run_dir: Path, reporter: Any, **_: Any
) -> SimpleNamespace:
    reporter.phase("training")
    name = config.name
    if "family" in name:
        subprocess.Popen([sys.executable, "-c", FAMILY], close_fds=False)
    checkpoints = run_dir / "checkpoints"
    newest = newest_verified(checkpoints, lambda *_: None)
    weights, rng, step = restored(newest.folder) if newest else fresh(config.seed)
    num_steps = config.optimization.num_steps
    while step < num_steps:
        step += 1
        time.sleep(STEP_SECONDS)
        weights += rng.standard_normal(weights.shape) * 0.1
        reporter.metrics(step, {"train/loss": float(np.square(weights).mean())})
        misbehave(name, step)
        control = reporter.progress(step, num_steps)
        if step % config.checkpoints.every == 0 or control is Control.STOP_AND_SAVE:
            trace = Trace("p", (1, 2), ("a", "b"), "ab", 0, True)
            reporter.samples(step, [trace])
            reporter.flush()
            publish(checkpoints, step, partial(save, weights=weights, rng=rng, step=step), keep=2)
        if control is not Control.GO_ON and "deaf" not in name:
            return SimpleNamespace(status="stopped", step=step)
    result = run_dir / "result.npz"
    np.savez(result, weights=weights)
    reporter.artifact("adapter_zip", result)
    reporter.flush()
    return SimpleNamespace(status="completed", step=step)


def misbehave(name: str, step: int) -> None:
    if step != 5:
        return
    if "raise" in name:
        raise ValueError("the rows are upside down")
    if "memory" in name:
        raise MemoryError("asked for 9 exabytes")
    if "exit" in name:
        print("I leave", flush=True)
        os._exit(7)
    if "chatty" in name:
        for _ in range(4000):
            print("x" * 4000)


def fresh(seed: int) -> tuple[Any, np.random.Generator, int]:
    return np.zeros(8), np.random.default_rng(seed), 0


def save(folder: Path, weights: Any, rng: np.random.Generator, step: int) -> None:
    np.savez(folder / "weights.npz", weights=weights)
    state = {"step": step, "rng": rng.bit_generator.state}
    (folder / "state.json").write_text(json.dumps(state))


def restored(folder: Path) -> tuple[Any, np.random.Generator, int]:
    state = json.loads((folder / "state.json").read_text())
    rng = np.random.default_rng()
    rng.bit_generator.state = state["rng"]
    return np.load(folder / "weights.npz")["weights"], rng, state["step"]
