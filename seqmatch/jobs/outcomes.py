"""What becomes of a run whose attempt has ended: decided from the files that the attempt left.

The shim calls this when its trainer has ended; the runner, when the shim could not. Both may: the
second one finds that the attempt does not own the run any more, and that is all.
"""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmatch.jobs.atomic_json import read_json
from seqmatch.jobs.attempt_files import (
    exit_path,
    last_lines,
    log_path,
    result_path,
    spool_path,
)
from seqmatch.jobs.reports import replay_spool
from seqmatch.jobs.trainer_processes import PEER_LOST
from storage import RunStore
from storage.errors import LeaseLostError
from storage.records import RunStatus

OUT_OF_MEMORY = "out of memory"
MEMORY_ADVICE = (
    "A smaller batch size, shorter rows or a smaller model need less; closing other programs, or "
    "running fewer jobs at once, leaves more."
)


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    status: RunStatus | None
    """None where it died without reporting."""
    error_kind: str = ""
    error_message: str = ""
    may_retry: bool = False


def conclude(store: RunStore, run_id: str, attempt: int) -> RunStatus | None:
    """Writes the end of an attempt, no process of which lives, into the store.

    Returns:
        Where the run stands now, or None where the attempt did not own it any more.

    Raises:
        StorageError: The store cannot be written now; to be called again.
        OSError: Likewise.
    """
    run_dir = store.run_dir(run_id)
    outcome = read_outcome(run_dir, attempt)
    peak = (read_json(exit_path(run_dir, attempt)) or {}).get("peak_memory_bytes")
    try:
        replay_spool(store, run_id, attempt, spool_path(run_dir))
        if outcome.status is not None:
            store.runs.finish(
                run_id,
                attempt,
                outcome.status,
                error_kind=outcome.error_kind,
                error_message=outcome.error_message,
                peak_memory_bytes=peak,
            )
            return outcome.status
        status = store.runs.crashed(
            run_id,
            attempt,
            outcome.error_kind,
            outcome.error_message,
            may_retry=outcome.may_retry,
        )
    except LeaseLostError:
        return None
    after = "it starts again from its newest checkpoint" if status is RunStatus.QUEUED else status
    message = f"attempt {attempt}: {outcome.error_message} Now: {after}."
    store.notes.add_event(run_id, None, "warning", "attempt_died", message)
    return status


def read_outcome(run_dir: Path, attempt: int) -> Outcome:
    """Returns how an attempt ended, from its result (if it lived to write one) and its exit."""
    result = read_json(result_path(run_dir, attempt))
    if result is not None and result.get("status") in ("completed", "cancelled", "failed"):
        return Outcome(
            RunStatus(result["status"]),
            error_kind=result.get("error_kind", ""),
            error_message=result.get("error_message", ""),
        )
    if result is not None:
        text = result.get("error_message", "The system asked the trainer to end.")
        return Outcome(None, "interrupted", text, may_retry=True)
    ended = read_json(exit_path(run_dir, attempt))
    if ended is None:
        text = (
            "It ended without a trace: the machine was restarted, or all its processes were killed."
        )
        return Outcome(None, "lost", text, may_retry=True)
    failed = _failed_elsewhere(run_dir, attempt, ended)
    return failed or _from_exit(ended, last_lines(log_path(run_dir, attempt)))


def _failed_elsewhere(run_dir: Path, attempt: int, ended: dict[str, Any]) -> Outcome | None:
    """What another process than the main one failed of, where one told."""
    size = ended.get("num_processes", 1)
    for process in range(1, size):
        told = read_json(result_path(run_dir, attempt, process))
        if told is not None:
            text = f"In process {process + 1} of {size}: {told.get('error_message', '')}"
            return Outcome(RunStatus.FAILED, told.get("error_kind", ""), text)
    return None


def _from_exit(ended: dict[str, Any], log: str) -> Outcome:
    number, size = ended.get("signal"), ended.get("num_processes", 1)
    trainer = f"Process {ended['process']} of {size} of the trainer" if size > 1 else "The trainer"
    if number == signal.SIGKILL and ended.get("num_oom_kills", 0) > 0:
        needed = ended.get("peak_memory_bytes") or 0
        message = (
            "The machine ran out of memory and ended the trainer, which was using "
            f"{needed / 1e9:.1f} GB. {MEMORY_ADVICE}"
        )
        return Outcome(None, OUT_OF_MEMORY, message, may_retry=True)
    if number is not None:
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        return Outcome(None, f"killed:{number}", f"{trainer} was ended by {name}.", True)
    if ended.get("exit_code") == PEER_LOST:
        text = "The processes of the trainer lost each other, and none of them says why."
        return Outcome(None, "peer lost", text, may_retry=True)
    text = f"{trainer} ended with exit code {ended.get('exit_code')} without a result."
    return Outcome(None, "exit", f"{text} Its last words: {log}" if log else text, may_retry=False)
