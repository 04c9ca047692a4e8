"""Trains one queued run here and now, without runner or shim: for a launcher of many machines.

`accelerate launch ... -m seqmatch.jobs.by_hand --data-dir D --run ID`, once on each machine. The
first process claims the run, reports and writes as any worker, and records the end; it holds the
run's locks meanwhile, so that a runner leaves the run alone. The others only read: their machine
needs a copy of the data directory as it was when the run was queued, in which nothing is written.
"""

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqmatch.jobs import attempt_files, worker
from seqmatch.jobs.locks import try_lock
from seqmatch.jobs.outcomes import conclude
from storage import RunStore
from storage.errors import StorageError
from storage.file_system import make_private_folder

RENEW_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains the run to its end; returns 0 where it has a result."""
    given = _options(arguments)
    store = RunStore.open(given.data_dir)
    if process := int(os.environ.get("RANK", "0")):
        run = store.runs.get(given.run)
        return worker.take_part(store, run, run.attempt + 1, worker.TRAINER, process)
    run_dir = store.run_dir(given.run)
    make_private_folder(run_dir)
    shim = try_lock(run_dir / attempt_files.SHIM_LOCK)
    tree = try_lock(run_dir / attempt_files.TREE_LOCK)
    if shim is None or tree is None:
        print(f"run {given.run} is minded by another process", file=sys.stderr)
        return 3
    attempt = store.runs.claim_one(given.run, "by hand").attempt
    names = ["--data-dir", str(given.data_dir), "--run", given.run, "--attempt", str(attempt)]
    with _renewed(store, given.run, attempt):
        code = worker.main(names)
    tree.close()
    print(f"run {given.run}: {conclude(store, given.run, attempt)}", file=sys.stderr)
    store.close()
    shim.close()
    return code


@contextlib.contextmanager
def _renewed(store: RunStore, run_id: str, attempt: int) -> Iterator[None]:
    """Says that the attempt is alive, for as long as this lasts."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_SECONDS):
            with contextlib.suppress(StorageError, OSError):
                store.runs.renew(run_id, attempt)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--run", required=True)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
