"""A store with one claimed run, without any process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import RunStore
from storage.records import Claim, NewRun


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.open(tmp_path / "data")
    opened.datasets.add("a" * 64, "rows", 1, 0, "{}")
    opened.devices.set_slots(["cpu:0"])
    yield opened
    opened.close()


@pytest.fixture
def claim(store: RunStore) -> Claim:
    store.runs.create(NewRun("run", "{}", "sft", "", "byte-llama-small", "a" * 64, 0, 10))
    claimed = store.runs.claim("test")
    assert claimed is not None
    return claimed
