"""Where attempts of runs are executed: what the runner asks of a place, and this machine."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from seqmatch.jobs import attempt_files
from seqmatch.jobs.device_slots import visible_gpus
from seqmatch.jobs.environment import ROOT, child_environment, python_module
from seqmatch.jobs.locks import is_held, try_lock
from seqmatch.jobs.process_tokens import read_identity, signal_all
from storage.records import Claim

_LOCK_PATIENCE_SECONDS = 10.0
ORPHAN_GRACE_SECONDS = 30.0


class Condition(StrEnum):
    """What is left of an attempt."""

    MINDED = "minded"
    """Its shim lives and takes care of everything."""
    ORPHANED = "orphaned"
    """A process of it lives without a shim."""
    ENDED = "ended"
    """Nothing of it lives."""


class Executor(Protocol):
    """Executes attempts somewhere. All methods return soon; none of them knows the store."""

    def submit(self, claim: Claim) -> None:
        """Starts an attempt that was claimed."""

    def poll(self, run_id: str, attempt: int) -> Condition:
        """Tells what is left of an attempt, whoever started it."""

    def cancel(self, run_id: str, attempt: int) -> None:
        """Brings an orphaned attempt closer to its end; to be called until it has ended."""


class LocalExecutor:
    """Executes attempts as processes of this machine, each under a shim of its own."""

    def __init__(
        self,
        data_dir: Path,
        *,
        trainer: str,
        num_threads: Callable[[Claim], int],
        grace_seconds: float = ORPHAN_GRACE_SECONDS,
    ) -> None:
        self._data_dir = data_dir
        self._trainer = trainer
        self._num_threads = num_threads
        self._grace_seconds = grace_seconds
        self._shims: list[subprocess.Popen[bytes]] = []
        self._orphans: dict[tuple[str, int], float] = {}

    def submit(self, claim: Claim) -> None:
        """Starts the shim of an attempt, born with its lock so that it is never taken for dead."""
        run_dir = self._run_dir(claim.run.id)
        lock = try_lock(run_dir / attempt_files.SHIM_LOCK, patience=_LOCK_PATIENCE_SECONDS)
        if lock is None:
            return  # the shim of the attempt before is still leaving; `poll` tells when it has
        arguments = ["--data-dir", str(self._data_dir), "--run", claim.run.id]
        arguments += ["--attempt", str(claim.attempt), "--trainer", self._trainer]
        arguments += ["--lock-fd", str(lock.descriptor)]
        with (run_dir / "shim.log").open("ab") as log:
            shim = subprocess.Popen(
                python_module("seqmatch.jobs.shim", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(claim),
                cwd=ROOT,
                start_new_session=True,
                pass_fds=(lock.descriptor,),
            )
        lock.close()
        self._shims.append(shim)

    def poll(self, run_id: str, attempt: int) -> Condition:
        """Tells what is left of an attempt, by the locks that the kernel keeps."""
        self._shims = [shim for shim in self._shims if shim.poll() is None]
        run_dir = self._run_dir(run_id)
        if is_held(run_dir / attempt_files.SHIM_LOCK):
            return Condition.MINDED
        if is_held(run_dir / attempt_files.TREE_LOCK):
            return Condition.ORPHANED
        self._orphans.pop((run_id, attempt), None)
        return Condition.ENDED

    def cancel(self, run_id: str, attempt: int) -> None:
        """Asks the processes of an orphaned attempt to end; after the grace, kills them."""
        identity = read_identity(attempt_files.identity_path(self._run_dir(run_id), attempt))
        if identity is None or not identity.is_of_this_boot:
            return
        now = time.monotonic()
        key = (run_id, attempt)
        if key not in self._orphans:
            self._orphans[key] = now + self._grace_seconds
            signal_all(identity.token, signal.SIGTERM)
        elif now >= self._orphans[key]:
            signal_all(identity.token, signal.SIGKILL)

    def _environment(self, claim: Claim) -> dict[str, str]:
        threads = str(self._num_threads(claim))
        extra = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        visible = visible_gpus(claim.run.device, claim.device_slot)
        if visible is not None:
            extra["CUDA_VISIBLE_DEVICES"] = visible
        return child_environment(os.environ, **extra)

    def _run_dir(self, run_id: str) -> Path:
        return self._data_dir / "runs" / run_id
