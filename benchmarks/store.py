"""How fast the run store writes and reads curves: `python -m benchmarks.store`.

Prints points per second for batches against single commits, and for full and incremental reads, and
the seconds that opening takes. One process, one temporary folder on the disk that is named.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from storage import RunStore
from storage.engine import journal_mode, sqlite_module
from storage.records import MetricPoint, NewRun

NUM_CURVES = 20

T = TypeVar("T")


def main() -> None:
    """Measures and prints one line per figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store", description=__doc__)
    parser.add_argument("--points", type=int, default=40_000, help="points written in batches")
    parser.add_argument("--folder", type=Path, help="where the temporary store is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data_dir = Path(folder) / "data"
        first, store = _timed(lambda: RunStore.open(data_dir))
        _measure(store, options.points)
        store.close()
        again, store = _timed(lambda: RunStore.open(data_dir))
        store.close()
    print(f"open: new {first * 1e3:.0f} ms, existing {again * 1e3:.1f} ms")


def _measure(store: RunStore, num_points: int) -> None:
    run_id = claimed_run(store)
    steps = num_points // NUM_CURVES
    print(f"SQLite {sqlite_module().sqlite_version}, journal {journal_mode()}")

    batched, _ = _timed(lambda: _write(store, run_id, range(steps)))
    print(f"append, {NUM_CURVES} points a commit: {steps * NUM_CURVES / batched:,.0f} points/s")
    fewer = range(steps, steps + max(1, steps // 20))
    single, _ = _timed(lambda: _write_singly(store, run_id, fewer))
    single_rate = len(fewer) * NUM_CURVES / single
    print(f"append, 1 point a commit: {single_rate:,.0f} points/s")
    print(f"ratio batched to single: {steps * NUM_CURVES / batched / single_rate:.1f}")

    full, page = _timed(lambda: store.metrics.read(run_id))
    print(f"full read of {len(page.points):,} points: {len(page.points) / full:,.0f} points/s")
    last, _ = _timed(lambda: store.metrics.read(run_id, after=page.cursor - NUM_CURVES))
    nothing, _ = _timed(lambda: store.metrics.read(run_id, after=page.cursor))
    print(
        f"incremental read: {last * 1e3:.2f} ms for {NUM_CURVES} new, {nothing * 1e3:.2f} ms for 0"
    )


def _timed(action: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def claimed_run(store: RunStore) -> str:
    """Queues a run and claims it; returns its id. Its attempt is the first."""
    dataset = store.datasets.add("a" * 64, "benchmark", 1, 0, "{}")
    store.devices.set_slots(["cpu:0"])
    run = store.runs.create(NewRun("benchmark", "{}", "sft", "", "m", dataset.id, 0, 1))
    store.runs.claim("benchmark")
    return run.id


def _points(step: int) -> list[MetricPoint]:
    return [MetricPoint(f"train/{curve}", step, step / 7) for curve in range(NUM_CURVES)]


def _write(store: RunStore, run_id: str, steps: range) -> None:
    for step in steps:
        store.metrics.append(run_id, 1, _points(step))


def _write_singly(store: RunStore, run_id: str, steps: range) -> None:
    for step in steps:
        for point in _points(step):
            store.metrics.append(run_id, 1, [point])


if __name__ == "__main__":
    main()
