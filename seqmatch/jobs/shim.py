"""The minder of one attempt: starts the trainer, keeps its lease, ends it, records how it ended.

`python -m seqmatch.jobs.shim --data-dir D --run ID --attempt N`. Small, without torch, in a session
of its own: it outlives the page and the runner. It holds `shim.lock`; the trainer and its children
hold `tree.lock`, so that they are seen even if the shim dies.
"""

import argparse
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from seqmatch.jobs import attempt_files
from seqmatch.jobs.atomic_json import write_json
from seqmatch.jobs.device_slots import num_processes
from seqmatch.jobs.environment import TOKEN_VARIABLE, child_environment
from seqmatch.jobs.locks import Lock, adopt, is_held, try_lock
from seqmatch.jobs.memory_limits import oom_kills
from seqmatch.jobs.outcomes import conclude
from seqmatch.jobs.process_tokens import (
    AttemptIdentity,
    boot_id,
    pid_namespace,
    signal_all,
    start_time,
)
from seqmatch.jobs.trainer_processes import TrainerProcesses
from storage import RunStore
from storage.errors import StorageError
from storage.records import ControlRequest, RunStatus

POLL_SECONDS = 0.2
RENEW_SECONDS = 5.0
CONTROL_SECONDS = 0.5
GRACE_SECONDS = {ControlRequest.STOP: 30.0, ControlRequest.STOP_AND_SAVE: 120.0}
"""How long a trainer may take to end by itself after it was asked."""
_CONCLUDE_SECONDS = 60.0


@dataclass
class Ladder:
    """Stop: SIGTERM to the trainer alone; after the grace, or for KILL, SIGKILL to all."""

    asked: ControlRequest = ControlRequest.NONE
    kill_at: float = float("inf")
    has_terminated: bool = False

    def ask(self, control: ControlRequest, now: float) -> None:
        """Notes what was asked; the tightest deadline counts."""
        if control in (self.asked, ControlRequest.NONE):
            return
        self.asked = control
        grace = GRACE_SECONDS.get(control, 0.0)
        self.kill_at = min(self.kill_at, now + grace)


class Minder:
    """Minds one trainer process."""

    def __init__(self, store: RunStore, run_id: str, attempt: int, trainer: str) -> None:
        self.store = store
        self.run_id = run_id
        self.attempt = attempt
        self.run_dir = store.run_dir(run_id)
        self.trainer = trainer
        self.ladder = Ladder()
        self.is_superseded = False
        self.identity = AttemptIdentity(secrets.token_hex(16), boot_id(), pid_namespace())
        self._renewed_at = float("-inf")
        self._looked_at = float("-inf")

    def run(self, tree: Lock) -> None:
        """Starts the trainer and returns when nothing of it lives and its end is recorded."""
        identity_path = attempt_files.identity_path(self.run_dir, self.attempt)
        self.identity.write(identity_path)
        kills_before = oom_kills()
        processes = self._start(tree)
        tree.close()
        pid = processes.pid
        self.identity = replace(self.identity, pid=pid, started_at=start_time(pid))
        self.identity.write(identity_path)
        while not processes.have_ended(time.monotonic()):
            self._look(processes)
            time.sleep(POLL_SECONDS)
        self._record_exit(processes, kills_before)

    def _start(self, tree: Lock) -> TrainerProcesses:
        arguments = ["--data-dir", str(self.store.data_dir), "--run", self.run_id]
        arguments += ["--attempt", str(self.attempt), "--trainer", self.trainer]
        environment = child_environment() | {TOKEN_VARIABLE: self.identity.token}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        return TrainerProcesses.start(
            self.run_dir,
            self.attempt,
            arguments,
            count=num_processes(self.store.runs.get(self.run_id).device),
            environment=environment,
            tree_lock=tree.descriptor,
        )

    def _look(self, processes: TrainerProcesses) -> None:
        """One round: the lease, what was asked, the signals that are due, the log's size."""
        now = time.monotonic()
        try:
            self._exchange(now)
        except (StorageError, OSError) as error:
            _say(f"the store cannot be reached now: {error}")
        if self.ladder.asked is not ControlRequest.NONE and not self.ladder.has_terminated:
            self.ladder.has_terminated = True
            processes.terminate()
        if now >= self.ladder.kill_at:
            processes.kill(self.identity.token)
        attempt_files.shorten_log(attempt_files.log_path(self.run_dir, self.attempt))

    def _exchange(self, now: float) -> None:
        control: ControlRequest | None
        if now - self._renewed_at >= RENEW_SECONDS:
            control = self.store.runs.renew(self.run_id, self.attempt)
            self._renewed_at = now
        elif now - self._looked_at >= CONTROL_SECONDS:
            run = self.store.runs.get(self.run_id)
            is_ours = run.attempt == self.attempt and run.status is RunStatus.RUNNING
            control = run.control if is_ours else None
        else:
            return
        self._looked_at = now
        if control is None:
            self.is_superseded = True
            control = ControlRequest.KILL
        self.ladder.ask(control, now)

    def _record_exit(self, processes: TrainerProcesses, kills_before: int | None) -> None:
        """Ends what the trainer left behind, reaps it, and writes how it ended."""
        processes.kill(self.identity.token)
        ended = processes.reap()
        kills_after = oom_kills()
        is_known = kills_before is not None and kills_after is not None
        ended["num_oom_kills"] = (kills_after or 0) - (kills_before or 0) if is_known else 0
        ended["ended_at"] = time.time()
        write_json(attempt_files.exit_path(self.run_dir, self.attempt), ended)
        deadline = time.monotonic() + GRACE_SECONDS[ControlRequest.STOP]
        tree = self.run_dir / attempt_files.TREE_LOCK
        while is_held(tree) and time.monotonic() < deadline:
            signal_all(self.identity.token, signal.SIGKILL)
            time.sleep(POLL_SECONDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Minds one attempt to its end."""
    given = _options(arguments)
    store = RunStore.open(given.data_dir)
    run_dir = store.run_dir(given.run)
    path = run_dir / attempt_files.SHIM_LOCK
    lock = try_lock(path) if given.lock_fd is None else adopt(given.lock_fd)
    tree = try_lock(run_dir / attempt_files.TREE_LOCK)
    if lock is None or tree is None:
        _say(f"run {given.run} is minded already, or something of an earlier attempt lives")
        return 3
    attempt_files.delete_old_logs(run_dir)
    if store.runs.renew(given.run, given.attempt) is None:
        _say(f"attempt {given.attempt} of run {given.run} is not the running one")
        return 3
    minder = Minder(store, given.run, given.attempt, given.trainer)
    minder.run(tree)
    if not minder.is_superseded:
        _conclude(store, given.run, given.attempt)
    store.close()
    lock.close()
    return 0


def _conclude(store: RunStore, run_id: str, attempt: int) -> None:
    """Writes the end into the store; where that cannot be for long, the runner will."""
    deadline = time.monotonic() + _CONCLUDE_SECONDS
    while True:
        try:
            status = conclude(store, run_id, attempt)
        except (StorageError, OSError) as error:
            _say(f"the end of run {run_id} cannot be written now: {error}")
            if time.monotonic() >= deadline:
                return
            time.sleep(1.0)
        else:
            _say(f"run {run_id}, attempt {attempt}: {status or 'superseded'}")
            return


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--trainer", default="seqmatch.training:train", help="for tests")
    parser.add_argument("--lock-fd", type=int, help="the held shim.lock, inherited of the runner")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
