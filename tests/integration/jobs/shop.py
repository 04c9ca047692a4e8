"""A real store, a real runner and real shims, with the numpy trainer of this folder."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from seqmatch.config import RunConfig
from seqmatch.ingest.frozen import freeze_demonstrations
from seqmatch.jobs import attempt_files
from seqmatch.jobs.environment import child_environment, python_module
from seqmatch.jobs.locks import is_held
from seqmatch.jobs.process_tokens import living, read_identity
from seqmatch.jobs.queueing import new_run
from seqmatch.jobs.runner import RUNNER_LOCK
from seqmatch.types import Demonstration
from storage import RunStore
from storage.records import RunRecord

NUMPY_TRAINER = "tests.integration.jobs.numpy_trainer:train"
DEADLINE = 60.0


def until(what: Callable[[], object], why: str, seconds: float = DEADLINE) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"after {seconds} s still not: {why}"
        time.sleep(0.02)


class Shop:
    """A data directory with a runner, and the means to look and to kill."""

    def __init__(self, data_dir: Path, trainer: str = NUMPY_TRAINER) -> None:
        self.store = RunStore.open(data_dir)
        self.data_dir = self.store.data_dir
        self.trainer = trainer
        self.runners: list[subprocess.Popen[bytes]] = []
        rows = [Demonstration(f"{i}+{i}=", str(2 * i), group=str(i)) for i in range(40)]
        frozen = freeze_demonstrations(rows, self.data_dir / "demonstrations")
        self.dataset = self.store.datasets.add(frozen.sha256, "sums", frozen.num_rows, 0, "{}")

    def start_runner(self, *options: str) -> "subprocess.Popen[bytes]":
        command = python_module(
            "seqmatch.jobs.runner",
            *("--data-dir", str(self.data_dir), "--trainer", self.trainer),
            *("--poll-seconds", "0.1", "--idle-seconds", "1", "--orphan-grace-seconds", "2"),
            *options,
        )
        with (self.data_dir / "runner.out").open("ab") as log:
            runner = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
                start_new_session=True,
            )
        self.runners.append(runner)
        return runner

    def ensure_runner(self) -> None:
        if not is_held(self.data_dir / RUNNER_LOCK):
            self.start_runner()

    def queue(
        self, name: str = "quiet", *, num_steps: int = 40, seed: int = 0, **more: Any
    ) -> RunRecord:
        config = RunConfig.model_validate(
            {
                "name": name,
                "data": {"dataset": self.dataset.id},
                "adapter": {"kind": "full"},
                "optimization": {"num_steps": num_steps},
                "checkpoints": {"every": 10},
                "seed": seed,
                **more,
            }
        )
        return self.store.runs.create(new_run(config, self.dataset))

    def run(self, run_id: str) -> RunRecord:
        return self.store.runs.get(run_id)

    def finished(self, run_id: str, seconds: float = DEADLINE) -> RunRecord:
        until(lambda: self.run(run_id).status.is_final, f"run {run_id} ended", seconds)
        return self.run(run_id)

    def trainer_pid(self, run_id: str) -> int | None:
        run = self.run(run_id)
        identity = read_identity(
            attempt_files.identity_path(self.store.run_dir(run_id), run.attempt)
        )
        return None if identity is None else identity.pid

    def shim_pid(self, run_id: str) -> int | None:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "seqmatch.jobs.shim" in words and run_id in words:
                return int(process.pid)
        return None

    def curve(self, run_id: str) -> dict[int, float | None]:
        points = self.store.metrics.read(run_id, names=["train/loss"]).points
        assert len({point.step for point in points}) == len(points)
        return {point.step: point.value for point in points}

    def processes(self) -> list[psutil.Process]:
        """All processes that work on this data directory."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if str(self.data_dir) in words and process.pid != os.getpid():
                found.append(process)
        for path in self.data_dir.glob("runs/*/attempt-*.json"):
            identity = read_identity(path)
            found += list(living(identity.token)) if identity else []
        return found

    def assert_nothing_left(self) -> None:
        for slot in self.store.devices.list():
            assert slot.run_id is None
        for folder in (self.data_dir / "runs").iterdir():
            assert not is_held(folder / attempt_files.SHIM_LOCK)
            assert not is_held(folder / attempt_files.TREE_LOCK)

    def close(self) -> None:
        for runner in self.runners:
            with contextlib.suppress(ProcessLookupError):
                runner.kill()
            runner.wait()
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.store.close()
