"""The lane: the process that keeps models loaded and works on tasks, one after the other.

`python -m seqmatch.jobs.lane --data-dir D`. One per data directory, started by the runner. It ends
when it had nothing to do for some minutes, or when the runner has gone.
"""

import argparse
import faulthandler
import secrets
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel

from seqmatch.errors import SeqMatchError, unknown_name
from seqmatch.exact.results import OracleRequest
from seqmatch.ingest import read_frozen
from seqmatch.inspection import length_summary, token_view
from seqmatch.jobs.answering import Stopped, Write, answer
from seqmatch.jobs.exact_experiments import experiment
from seqmatch.jobs.lane_process import LANE_LOCK
from seqmatch.jobs.lens_types import LensRequest
from seqmatch.jobs.lens_work import Lens
from seqmatch.jobs.loaded_policies import LoadedPolicies
from seqmatch.jobs.locks import is_held, try_lock
from seqmatch.jobs.runner import RUNNER_LOCK
from seqmatch.jobs.task_types import (
    GenerateRequest,
    LengthSummaryRequest,
    LengthSummaryResult,
    PrepareModelProgress,
    PrepareModelRequest,
    TokenViewRequest,
    TokenViewResult,
)
from seqmatch.packaged_model import prepare
from storage import RunStore
from storage.errors import IllegalTransitionError, NotFoundError, StorageError
from storage.records import TaskRecord, TaskStatus

POLL_SECONDS = 0.25
IDLE_SECONDS = 300.0
ALONE_SECONDS = 10.0
"""How long the lane goes on without a runner: one that was killed comes back within it."""
KEEP_TASKS_SECONDS = 30 * 86_400.0
PACKAGED = "smollm2-135m-instruct"


class Lane:
    """Works on tasks."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.policies = LoadedPolicies(store)
        self.lens = Lens(store, self.policies)
        self.name = secrets.token_hex(8)
        self._work: Mapping[str, Callable[[str, Write], None]] = {
            "generate": self._generate,
            "token_view": self._token_view,
            "length_summary": self._length_summary,
            "prepare_model": self._prepare_model,
            "oracle": self._oracle,
            "lens": self._lens,
        }

    def work_on_next(self) -> bool:
        """Works on the longest waiting task; False where none waits."""
        task = self.store.tasks.claim(self.name)
        if task is None:
            return False
        try:
            status, message = self._work_on(task)
            self.store.tasks.finish(task.id, status, message)
        except (IllegalTransitionError, NotFoundError) as error:
            print(f"task {task.id} was taken away: {error}", file=sys.stderr, flush=True)
        return True

    def _work_on(self, task: TaskRecord) -> tuple[TaskStatus, str]:
        def write(output: BaseModel) -> bool:
            return self.store.tasks.append(task.id, output.model_dump_json())

        try:
            work = self._work.get(task.kind)
            if work is None:
                raise unknown_name("kind of task", task.kind, self._work)
            work(task.payload_json, write)
        except Stopped:
            return TaskStatus.CANCELLED, ""
        except (SeqMatchError, NotFoundError) as error:
            return TaskStatus.FAILED, str(error)
        except IllegalTransitionError:
            raise
        except Exception as error:  # noqa: BLE001 - the job boundary: a task ends, not the lane
            traceback.print_exc()
            return TaskStatus.FAILED, f"{type(error).__name__}: {error}"
        return TaskStatus.COMPLETED, ""

    def _generate(self, payload: str, write: Write) -> None:
        answer(GenerateRequest.model_validate_json(payload), self.policies, write)

    def _token_view(self, payload: str, write: Write) -> None:
        request = TokenViewRequest.model_validate_json(payload)
        rows = read_frozen(self.store.datasets.folder(request.dataset_id))
        if request.row_index >= len(rows):
            raise SeqMatchError(f"row {request.row_index} of a set of {len(rows)} rows was asked")
        tokenizer, space = self.policies.tokenizer(request.base_model, request.objective.backspace)
        view = token_view(
            tokenizer,
            space,
            rows[request.row_index],
            request.objective,
            max_tokens=request.max_tokens,
            seed=request.seed,
            index=request.row_index,
        )
        write(TokenViewResult.model_validate(asdict(view)))

    def _length_summary(self, payload: str, write: Write) -> None:
        request = LengthSummaryRequest.model_validate_json(payload)
        rows = read_frozen(self.store.datasets.folder(request.dataset_id))
        tokenizer, _ = self.policies.tokenizer(request.base_model, False)
        summary = length_summary(tokenizer, rows, request.max_tokens)
        write(LengthSummaryResult.model_validate(asdict(summary)))

    def _prepare_model(self, payload: str, write: Write) -> None:
        name = PrepareModelRequest.model_validate_json(payload).name
        if name != PACKAGED:
            raise unknown_name("packaged model", name, [PACKAGED])

        def tell(line: str) -> None:
            if not write(PrepareModelProgress(line=line)):
                raise Stopped

        prepare(self.store.data_dir / "models", tell)

    def _oracle(self, payload: str, write: Write) -> None:
        experiment(OracleRequest.model_validate_json(payload), write)

    def _lens(self, payload: str, write: Write) -> None:
        self.lens.work(LensRequest.model_validate_json(payload), write)


def serve(lane: Lane, idle_seconds: float, ended: threading.Event) -> None:
    """Works until asked to end, idle for long enough, or alone."""
    data_dir = lane.store.data_dir
    worked_at = minded_at = time.monotonic()
    while not ended.is_set():
        is_working = _try_next(lane)
        now = time.monotonic()
        if is_working:
            worked_at = now
        if is_held(data_dir / RUNNER_LOCK):
            minded_at = now
        if now - worked_at >= idle_seconds or now - minded_at >= ALONE_SECONDS:
            return
        if not is_working:
            ended.wait(POLL_SECONDS)


def _try_next(lane: Lane) -> bool:
    try:
        return lane.work_on_next()
    except (StorageError, OSError) as error:
        print(f"the store cannot be reached now: {error}", file=sys.stderr, flush=True)
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the lane; returns at once where the data directory has one already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--idle-seconds", type=float, default=IDLE_SECONDS)
    given = parser.parse_args(arguments)
    faulthandler.enable()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    lock = try_lock(given.data_dir / LANE_LOCK)
    if lock is None:
        return 0
    store = RunStore.open(given.data_dir)
    lane = Lane(store)
    store.tasks.requeue_lost(lane.name)
    store.tasks.purge(time.time() - KEEP_TASKS_SECONDS)
    serve(lane, given.idle_seconds, ended)
    store.close()
    lock.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
