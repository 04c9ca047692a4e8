"""What becomes of a run, from the files that its attempt left."""

from pathlib import Path
from typing import Any

import pytest

from seqmatch.jobs.atomic_json import write_json
from seqmatch.jobs.attempt_files import exit_path, log_path, result_path
from seqmatch.jobs.outcomes import conclude, read_outcome
from seqmatch.jobs.trainer_processes import PEER_LOST
from seqmatch.jobs.worker import is_out_of_memory
from storage import RunStore
from storage.records import Claim, ControlRequest, RunStatus

KILLED = {"exit_code": None, "signal": 9, "peak_memory_bytes": 3 << 30, "num_oom_kills": 0}
SECOND = {"process": 2, "num_processes": 2}
LEFT = {"exit_code": 7, "signal": None, "peak_memory_bytes": 1 << 20, "num_oom_kills": 0}


@pytest.mark.parametrize(
    ("result", "ended", "kind", "words", "may_retry"),
    [
        (None, None, "lost", "without a trace", True),
        (None, KILLED, "killed:9", "SIGKILL", True),
        (None, KILLED | {"num_oom_kills": 1}, "out of memory", "3.2 GB", True),
        (None, KILLED | {"signal": 11}, "killed:11", "SIGSEGV", True),
        (None, KILLED | SECOND, "killed:9", "Process 2 of 2 of the trainer was", True),
        (None, LEFT | SECOND | {"exit_code": PEER_LOST}, "peer lost", "lost each other", True),
        (None, LEFT, "exit", "exit code 7", False),
        ({"status": "interrupted"}, LEFT, "interrupted", "system", True),
    ],
)
def test_deaths_are_told_apart(
    tmp_path: Path, result: Any, ended: Any, kind: str, words: str, may_retry: bool
) -> None:
    if result is not None:
        write_json(result_path(tmp_path, 1), result)
    if ended is not None:
        write_json(exit_path(tmp_path, 1), ended)
    outcome = read_outcome(tmp_path, 1)
    assert (outcome.status, outcome.error_kind, outcome.may_retry) == (None, kind, may_retry)
    assert words in outcome.error_message


def test_what_failed_in_another_process_is_the_runs_failure(tmp_path: Path) -> None:
    write_json(exit_path(tmp_path, 1), LEFT | SECOND)
    failed = {"status": "failed", "error_kind": "ConfigError", "error_message": "no such GPU"}
    write_json(result_path(tmp_path, 1, 1), failed)
    outcome = read_outcome(tmp_path, 1)
    assert (outcome.status, outcome.error_kind) == (RunStatus.FAILED, "ConfigError")
    assert outcome.error_message == "In process 2 of 2: no such GPU"


def test_a_result_counts_whatever_happened_after(tmp_path: Path) -> None:
    write_json(result_path(tmp_path, 1), {"status": "completed"})
    write_json(exit_path(tmp_path, 1), KILLED)
    assert read_outcome(tmp_path, 1).status is RunStatus.COMPLETED


def test_the_second_to_conclude_changes_nothing(store: RunStore, claim: Claim) -> None:
    run_id = claim.run.id
    write_json(result_path(store.run_dir(run_id), 1), {"status": "completed"})
    write_json(exit_path(store.run_dir(run_id), 1), LEFT)
    assert conclude(store, run_id, 1) is RunStatus.COMPLETED
    assert conclude(store, run_id, 1) is None
    done = store.runs.get(run_id)
    assert (done.status, done.peak_memory_bytes) == (RunStatus.COMPLETED, 1 << 20)
    assert store.devices.list()[0].run_id is None


def test_a_death_is_followed_by_a_start_unless_a_stop_was_asked(
    store: RunStore, claim: Claim
) -> None:
    assert conclude(store, claim.run.id, 1) is RunStatus.QUEUED
    again = store.runs.claim("test")
    assert again is not None
    store.runs.request(claim.run.id, ControlRequest.STOP)
    assert conclude(store, claim.run.id, again.attempt) is RunStatus.CANCELLED


def test_the_log_says_why_where_nothing_else_does(tmp_path: Path) -> None:
    write_json(exit_path(tmp_path, 1), LEFT)
    log_path(tmp_path, 1).write_text("first\n\nImportError: no such module\n")
    assert "ImportError: no such module" in read_outcome(tmp_path, 1).error_message


def test_lack_of_memory_is_known_by_its_errors() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
