"""Demonstrations, device slots and settings."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from storage import RunStore
from storage.errors import DatasetInUseError, DatasetNotFoundError, InvalidValueError
from storage.records import Claim, DeviceSlot, RunRecord, RunStatus

if TYPE_CHECKING:
    from tests.unit.storage.conftest import Clock

OTHER = "0123456789abcdef" * 4


def test_adding_the_same_content_again_changes_nothing(store: RunStore, clock: "Clock") -> None:
    first = store.datasets.add(OTHER, "letters", 8, 2, '{"codes": {}}')
    clock.advance(5)

    assert store.datasets.add(OTHER, "other name", 1, 1, "{}") == first
    assert store.datasets.get(OTHER) == first
    assert (first.num_rows, first.num_refused, first.created_at) == (8, 2, 1_000.0)
    assert len(store.datasets.list()) == 2


def test_datasets_are_listed_newest_first_and_renamed(store: RunStore, clock: "Clock") -> None:
    clock.advance(1)
    store.datasets.add(OTHER, "letters", 8, 0, "{}")

    assert [record.name for record in store.datasets.list()] == ["letters", "sums"]
    assert store.datasets.rename(OTHER, "words").name == "words"
    assert store.datasets.get(OTHER).name == "words"
    with pytest.raises(InvalidValueError):
        store.datasets.rename(OTHER, "")
    with pytest.raises(DatasetNotFoundError):
        store.datasets.rename("c" * 64, "x")


def test_a_dataset_in_use_stays(store: RunStore, queue: Callable[..., RunRecord]) -> None:
    store.datasets.add(OTHER, "letters", 8, 0, "{}")
    folder = store.datasets.folder(OTHER)
    folder.mkdir()
    (folder / "rows.jsonl").write_text("{}")
    run = queue(dataset_id=OTHER)
    store.runs.delete(run.id)

    with pytest.raises(DatasetInUseError, match="1 runs use"):
        store.datasets.delete(OTHER)
    assert (folder / "rows.jsonl").exists()
    store.runs.purge(run.id)
    store.datasets.delete(OTHER)

    assert not folder.exists()
    with pytest.raises(DatasetNotFoundError):
        store.datasets.get(OTHER)
    with pytest.raises(DatasetNotFoundError):
        store.datasets.delete(OTHER)


@pytest.mark.parametrize("dataset_id", ["", "../" + "a" * 61, "A" * 64, "a" * 63])
def test_a_dataset_id_is_a_hash(store: RunStore, dataset_id: str) -> None:
    with pytest.raises(InvalidValueError, match="no SHA-256"):
        store.datasets.add(dataset_id, "x", 1, 0, "{}")
    with pytest.raises(DatasetNotFoundError):
        store.datasets.folder(dataset_id)


def test_counts_are_not_negative(store: RunStore) -> None:
    with pytest.raises(InvalidValueError, match="0 or more"):
        store.datasets.add(OTHER, "x", -1, 0, "{}")


def test_set_slots_keeps_an_occupied_one_until_its_run_ends(
    store: RunStore, claim: Callable[..., Claim], queue: Callable[..., RunRecord]
) -> None:
    run = claim().run
    store.devices.set_slots(["cuda:0"])
    assert store.devices.list() == (DeviceSlot("cuda:0", None), DeviceSlot("cpu:0", run.id))
    waiting = queue(device="cpu")

    store.runs.finish(run.id, 1, RunStatus.COMPLETED)

    assert store.devices.list() == (DeviceSlot("cuda:0", None),)
    assert store.runs.claim("me") is None, "nothing new on a slot that is no longer listed"
    store.devices.set_slots(["cpu:0", "cuda:0"])
    assert [slot.name for slot in store.devices.list()] == ["cpu:0", "cuda:0"]
    again = store.runs.claim("me")
    assert again is not None
    assert again.run.id == waiting.id


def test_set_slots_wants_distinct_names(store: RunStore) -> None:
    for names in (["cpu:0", "cpu:0"], [" "]):
        with pytest.raises(InvalidValueError, match="distinct"):
            store.devices.set_slots(names)


def test_settings_keep_json(store: RunStore) -> None:
    assert store.settings.get("runner", "none yet") == "none yet"

    store.settings.set("runner", {"pid": 12, "names": ["ä", None]})
    store.settings.set("runner", {"pid": 13})

    assert store.settings.get("runner") == {"pid": 13}
    for value in (math.nan, object()):
        with pytest.raises(InvalidValueError, match="as JSON"):
            store.settings.set("runner", value)
