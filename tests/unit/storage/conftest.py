"""A store in a temporary folder with a clock that the test turns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import RunStore
from storage.records import Claim, MetricPoint, NewRun, RunRecord
from storage.schema import DATABASE_NAME

DATASET = "a" * 64


@dataclass
class Clock:
    """A clock that stands still until it is turned."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def filled(data_dir: Path) -> Path:
    """The database of a closed store with one run and some hundred pages of points."""
    store = RunStore.open(data_dir)
    store.datasets.add(DATASET, "sums", 10, 0, "{}")
    store.devices.set_slots(["cpu:0"])
    run = store.runs.create(NewRun("n", "{}", "sft", "", "m", DATASET, 0, 10))
    assert store.runs.claim("me") is not None
    points = [MetricPoint("train/loss", step, step / 7) for step in range(20_000)]
    store.metrics.append(run.id, 1, points)
    store.close()
    return data_dir / DATABASE_NAME


@pytest.fixture
def store(data_dir: Path, clock: Clock) -> Iterator[RunStore]:
    opened = RunStore.open(data_dir, clock=clock)
    opened.datasets.add(DATASET, "sums", 10, 0, "{}")
    opened.devices.set_slots(["cpu:0"])
    yield opened
    opened.close()


@pytest.fixture
def queue(store: RunStore) -> Callable[..., RunRecord]:
    """Queues a run; keywords replace fields of the `NewRun`."""

    def make(**changes: object) -> RunRecord:
        values: dict[str, object] = {
            "name": "first",
            "config_json": '{"kind": "sft"}',
            "objective": "sft",
            "divergence": "",
            "base_model": "byte-llama-small",
            "dataset_id": DATASET,
            "seed": 0,
            "num_steps": 100,
        }
        return store.runs.create(NewRun(**(values | changes)))  # type: ignore[arg-type]

    return make


@pytest.fixture
def claim(store: RunStore, queue: Callable[..., RunRecord]) -> Callable[..., Claim]:
    """Queues a run and claims it."""

    def make(**changes: object) -> Claim:
        queue(**changes)
        claimed = store.runs.claim("runner")
        assert claimed is not None
        return claimed

    return make
