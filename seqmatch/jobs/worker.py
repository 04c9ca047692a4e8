"""The trainer process: one attempt of one run, from its row in the store to its result file.

`python -m seqmatch.jobs.worker --data-dir D --run ID --attempt N`. Its last act is to write how it
ended; only its shim, or the runner, writes that into the store, so that there is one end.

SIGTERM asks it to save and stop at the next step. If nobody asked the run to stop, that is an
interruption (the system goes down), and the run will start again from there.

Where the environment says that several processes train the run together, with the variables of
torchrun and `accelerate launch`, the first one does all this and the others only train.
"""

import argparse
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from seqmatch.checkpoints import newest_verified
from seqmatch.config import RunConfig
from seqmatch.durable_files import remove_unfinished
from seqmatch.errors import PeerLostError
from seqmatch.ingest import read_frozen
from seqmatch.jobs.allowed_models import allowed_models
from seqmatch.jobs.atomic_json import write_json
from seqmatch.jobs.attempt_files import result_path, spool_path
from seqmatch.jobs.outcomes import MEMORY_ADVICE, OUT_OF_MEMORY
from seqmatch.jobs.reports import replay_spool
from seqmatch.jobs.store_reporter import StoreReporter
from seqmatch.jobs.trainer_processes import PEER_LOST
from seqmatch.metric_table import MetricTable
from seqmatch.reporting import NullReporter, Reporter
from storage import RunStore
from storage.errors import LeaseLostError, StoreBusyError, StoreFullError
from storage.records import ControlRequest, RunRecord

TRAINER = "seqmatch.training:train"
Trainer = Callable[..., Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one attempt; returns 0 where a result was written."""
    faulthandler.enable()
    given = _options(arguments)
    store = RunStore.open(given.data_dir)
    run = store.runs.get(given.run)
    if process := int(os.environ.get("RANK", "0")):
        return take_part(store, run, given.attempt, given.trainer, process)
    reporter = StoreReporter(store, run.id, given.attempt)
    signal.signal(signal.SIGTERM, lambda *_: reporter.interrupt())
    result = attempt(store, run, given.attempt, reporter, given.trainer)
    reporter.close()
    if reporter.is_superseded:
        return 3
    if result is None:
        return PEER_LOST
    write_json(result_path(store.run_dir(run.id), given.attempt), result)
    store.close()
    return 0


def attempt(
    store: RunStore, run: RunRecord, number: int, reporter: StoreReporter, trainer: str
) -> dict[str, str] | None:
    """Trains, and returns the result as it is to be written: the border that no error crosses.

    Where another process of the trainer is gone, its end counts, and there is no result.
    """
    try:
        _return_to_checkpoint(store, run, number)
        outcome = _train(store, run, reporter, _load(trainer))
    except (StoreBusyError, StoreFullError) as error:
        # Not the run's fault, and it passes: it starts again from its checkpoint.
        traceback.print_exc()
        return {"status": "interrupted", "error_message": f"The store could not be used: {error}"}
    except PeerLostError:
        traceback.print_exc()
        return None
    except Exception as error:  # noqa: BLE001 - the job boundary: every failure becomes a result
        return _failure(error)
    if outcome.status == "completed":
        return {"status": "completed"}
    was_asked = store.runs.get(run.id).control is not ControlRequest.NONE
    return {"status": "cancelled" if was_asked else "interrupted"}


def take_part(store: RunStore, run: RunRecord, number: int, trainer: str, process: int) -> int:
    """Trains as one of the further processes of a run; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the main process tells when to stop
    try:
        _train(store, run, NullReporter(), _load(trainer))
    except PeerLostError:
        traceback.print_exc()
        return PEER_LOST
    except Exception as error:  # noqa: BLE001 - the job boundary: every failure becomes a result
        write_json(result_path(store.run_dir(run.id), number, process), _failure(error))
        return 1
    return 0


def _train(store: RunStore, run: RunRecord, reporter: Reporter, trainer: Trainer) -> Any:
    config = RunConfig.model_validate_json(run.config_json)
    optimization = config.optimization.model_copy(update={"num_steps": run.num_steps})

    def metrics_csv() -> str:
        reporter.flush()
        table = MetricTable()
        for point in store.metrics.read(run.id).points:
            if point.value is not None:
                table.add(point.step, {point.name: point.value})
        return table.csv()

    return trainer(
        config.model_copy(update={"optimization": optimization}),
        read_frozen(store.datasets.folder(run.dataset_id)),
        run_dir=store.run_dir(run.id),
        models_dir=store.data_dir / "models",
        allowed_models=allowed_models(store),
        reporter=reporter,
        dataset_sha256=run.dataset_id,
        metrics_csv=metrics_csv,
    )


def _return_to_checkpoint(store: RunStore, run: RunRecord, number: int) -> None:
    """Drops what was reported beyond the checkpoint that training starts from: it comes again."""
    run_dir = store.run_dir(run.id)
    replay_spool(store, run.id, number, spool_path(run_dir))
    remove_unfinished(run_dir / "checkpoints")  # as training will: both must find the same one
    checkpoint = newest_verified(run_dir / "checkpoints", lambda *_: None)
    store.metrics.clear_after(run.id, number, -1 if checkpoint is None else checkpoint.step)


def is_out_of_memory(error: Exception) -> bool:
    """Tells whether an error says that memory ran out: Python's, the GPU's, or torch's on the CPU.

    torch's classes are known by name, so that a trainer without torch needs none.
    """
    names = {kind.__name__ for kind in type(error).__mro__}
    is_allocator = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or "OutOfMemoryError" in names or is_allocator


def _failure(error: Exception) -> dict[str, str]:
    """The result of an attempt in which this was raised; its trace goes to the log."""
    traceback.print_exception(error)
    if is_out_of_memory(error):
        return _failed(OUT_OF_MEMORY, f"There was not enough memory: {error}. {MEMORY_ADVICE}")
    return _failed(type(error).__name__, str(error) or "no further words; see the log")


def _failed(kind: str, message: str) -> dict[str, str]:
    return {"status": "failed", "error_kind": kind, "error_message": message}


def _load(name: str) -> Trainer:
    module, _, function = name.partition(":")
    trainer: Trainer = getattr(importlib.import_module(module), function)
    return trainer


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--trainer", default=TRAINER, help="module:function, for tests")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LeaseLostError as lost:
        sys.exit(str(lost))
