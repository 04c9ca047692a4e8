"""Which run a claim starts, and on which devices."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from storage import RunStore
from storage.records import Claim, RunRecord, RunStatus

if TYPE_CHECKING:
    from tests.unit.storage.conftest import Clock

Queue = Callable[..., RunRecord]
Claimed = Callable[..., Claim]


def test_claim_starts_the_longest_waiting_run(
    store: RunStore, queue: Queue, clock: "Clock"
) -> None:
    first, second = queue(name="first"), queue(name="second")
    clock.advance(5)

    claim = store.runs.claim("me", lease_seconds=30)

    assert claim is not None
    assert (claim.run.id, claim.attempt, claim.device_slot) == (first.id, 1, "cpu:0")
    assert (claim.run.status, claim.run.runner) == (RunStatus.RUNNING, "me")
    assert (claim.run.started_at, claim.run.lease_until) == (1_005.0, 1_035.0)
    assert claim.run.device_slot == "cpu:0"
    assert store.runs.active() == (claim.run,)
    assert store.runs.claim("me") is None, "the only slot is taken"
    assert store.runs.get(second.id).status == RunStatus.QUEUED


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("auto", "cuda:0"),
        ("cuda", "cuda:0"),
        ("cuda:1", "cuda:1"),
        ("cpu", "cpu:0"),
        ("cud", None),
        ("%", None),
        ("cuda:", None),
    ],
)
def test_claim_matches_the_device(
    store: RunStore, queue: Queue, device: str, expected: str | None
) -> None:
    store.devices.set_slots(["cuda:0", "cuda:1", "cpu:0"])
    queue(device=device)

    claim = store.runs.claim("me")

    assert (claim and claim.device_slot) == expected


def test_claim_passes_over_a_run_whose_device_is_busy(store: RunStore, queue: Queue) -> None:
    store.devices.set_slots(["cuda:0", "cpu:0"])
    queue(device="cuda:0")
    assert store.runs.claim("me") is not None
    waiting, fitting = queue(device="cuda:0"), queue(device="cpu")

    claim = store.runs.claim("me")

    assert claim is not None
    assert claim.run.id == fitting.id
    assert store.runs.get(waiting.id).status == RunStatus.QUEUED


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("cuda,cuda", "cuda:0,cuda:1"),
        ("cuda:1,cuda:0", "cuda:1,cuda:0"),
        ("cpu,cpu,cpu", "cpu:0"),
        ("cuda,cuda,cuda", None),
        ("cuda:0,cuda:7", None),
    ],
)
def test_a_run_on_several_devices_claims_them_all_or_waits(
    store: RunStore, queue: Queue, device: str, expected: str | None
) -> None:
    store.devices.set_slots(["cuda:0", "cuda:1", "cpu:0", "cuda:0:1", "cuda:1:1", "cpu:0:1"])
    queue(device=device)

    claim = store.runs.claim("me")

    assert (claim and claim.device_slot) == expected
    occupied = [slot.name for slot in store.devices.list() if slot.run_id]
    assert sorted(occupied) == sorted(expected.split(",") if expected else [])
    if claim is not None:
        assert [run.id for run in store.runs.list()] == [claim.run.id], (
            "one row, however many slots"
        )
        store.runs.finish(claim.run.id, 1, RunStatus.COMPLETED)
        assert not any(slot.run_id for slot in store.devices.list())


def test_a_run_that_waits_for_several_gpus_is_not_overtaken_on_them(
    store: RunStore, queue: Queue
) -> None:
    store.devices.set_slots(["cuda:0", "cuda:1", "cpu:0"])
    first = queue(device="cuda:0")
    assert store.runs.claim("me") is not None
    wide, never = queue(device="cuda,cuda"), queue(device="cuda,cuda,cuda")
    late, on_cpu = queue(device="auto"), queue(device="cpu")

    claim = store.runs.claim("me")

    assert claim is not None
    assert claim.run.id == on_cpu.id, "cuda:1 is kept for the run that needs both"
    assert store.runs.claim("me") is None
    store.runs.finish(first.id, 1, RunStatus.COMPLETED)
    claim = store.runs.claim("me")
    assert claim is not None
    assert (claim.run.id, claim.device_slot) == (wide.id, "cuda:0,cuda:1")
    store.runs.finish(wide.id, 1, RunStatus.COMPLETED)
    claim = store.runs.claim("me")
    assert claim is not None
    assert claim.run.id == late.id, "what can never be placed keeps nothing"
    assert store.runs.get(never.id).status is RunStatus.QUEUED
