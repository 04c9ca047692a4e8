"""What a page says while the one lane works on something else, or is not there."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.lane import waiting
from storage import RunStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.open(tmp_path)
    yield opened
    opened.close()


def test_a_page_says_what_it_waits_for(store: RunStore) -> None:
    oracle = store.tasks.submit("oracle", "{}")
    comparison = store.tasks.submit("generate", "{}")
    assert waiting(store, comparison, "Writing") == "Waiting for the worker …"
    store.tasks.claim("lane")
    assert "busy with an experiment of the Oracle page" in waiting(store, comparison, "Writing")
    assert waiting(store, store.tasks.get(oracle.id), "Training") == "Training …"


def test_a_page_says_where_to_look_when_no_worker_comes(store: RunStore) -> None:
    task = store.tasks.submit("oracle", "{}")
    early = dataclasses.replace(task, created_at=task.created_at - 40)
    said = waiting(store, early, "Training")
    waited = re.search(r"for (\d+) s", said)
    assert waited is not None
    assert int(waited[1]) >= 40, "the clock goes on meanwhile"
    assert "lane.log" in said
