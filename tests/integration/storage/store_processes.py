"""What the processes of the tests beside it do; apart from them, so that a child imports little."""

import os
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

from storage import RunStore
from storage.records import MetricPoint

LONGEST = 40.0
"""Seconds after which a process ends by itself, should the tests have died."""


def open_at_once(data_dir: Path, barrier: "Barrier") -> None:
    """Opens a folder at the same moment as others, and writes to it."""
    barrier.wait(30)
    store = RunStore.open(data_dir)
    store.settings.set(f"process/{os.getpid()}", True)
    store.close()


def claim_all(data_dir: Path, barrier: "Barrier", report: Path) -> None:
    """Claims runs and tasks until there are none, frees each slot, and reports what it got."""
    store = RunStore.open(data_dir)
    name = str(os.getpid())
    lines: list[str] = []
    barrier.wait(60)
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        claim = store.runs.claim(name)
        if claim is not None:
            lines.append(f"run {claim.run.id} {claim.attempt}")
            store.runs.crashed(claim.run.id, claim.attempt, "test", "done", may_retry=False)
        task = store.tasks.claim(name)
        if task is not None:
            lines.append(f"task {task.id} 1")
        # Another process may hold the slots this instant, with runs still waiting.
        is_idle = claim is None and task is None
        if is_idle and not any(run.status == "queued" for run in store.runs.list()):
            break
    report.write_text("\n".join(lines))
    store.close()


def write_points(data_dir: Path, run_id: str, attempt: int, acknowledged: Path) -> None:
    """Writes batches until it is killed; after each it says in a file how far it is sure to be."""
    store = RunStore.open(data_dir)
    page = store.metrics.read(run_id)
    step = max((point.step for point in page.points), default=0)
    descriptor = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        points = [MetricPoint("train/loss", step + i, float(step + i)) for i in range(1, 6)]
        store.metrics.append(run_id, attempt, points)
        step += 5
        os.write(descriptor, f"{step}\n".encode())


def add_points(data_dir: Path, run_id: str, attempt: int, name: str, count: int) -> None:
    """Writes `count` points of one curve in batches of ten."""
    store = RunStore.open(data_dir)
    for first in range(0, count, 10):
        points = [MetricPoint(name, first + i, 0.0) for i in range(10)]
        store.metrics.append(run_id, attempt, points)
    store.close()
    sys.exit(0)
