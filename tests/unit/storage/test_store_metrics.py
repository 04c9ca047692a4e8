"""Curves, samples and events: batches in, increments out."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import RunStore
from storage.errors import InvalidValueError, LeaseLostError, RunNotFoundError
from storage.records import (
    Claim,
    ControlRequest,
    EventRecord,
    MetricPoint,
    Progress,
    SampleRecord,
)

if TYPE_CHECKING:
    from tests.unit.storage.conftest import Clock

Claimed = Callable[..., Claim]


def _points(name: str, steps: range, offset: float = 0.0) -> list[MetricPoint]:
    return [MetricPoint(name, step, step + offset) for step in steps]


def test_read_brings_only_what_is_new(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.metrics.append(run_id, 1, _points("train/loss", range(3)))
    first = store.metrics.read(run_id)

    store.metrics.append(run_id, 1, _points("eval/nll", range(3, 5)))
    second = store.metrics.read(run_id, after=first.cursor)
    third = store.metrics.read(run_id, after=second.cursor)

    assert list(first.points) == _points("train/loss", range(3))
    assert list(second.points) == _points("eval/nll", range(3, 5))
    assert third.points == ()
    assert third.cursor == second.cursor
    assert not any(page.is_reset for page in (first, second, third))
    assert store.metrics.names(run_id) == ("eval/nll", "train/loss")


def test_a_replaced_point_comes_again(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.metrics.append(run_id, 1, _points("train/loss", range(3)))
    cursor = store.metrics.read(run_id).cursor

    store.metrics.append(run_id, 1, [MetricPoint("train/loss", 1, 9.0)])

    assert store.metrics.read(run_id, after=cursor).points == (MetricPoint("train/loss", 1, 9.0),)
    values = {point.step: point.value for point in store.metrics.read(run_id).points}
    assert values == {0: 0.0, 1: 9.0, 2: 2.0}


def test_the_last_of_two_points_in_one_batch_holds(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id

    store.metrics.append(run_id, 1, [MetricPoint("a", 1, 1.0), MetricPoint("a", 1, 2.0)])

    assert store.metrics.read(run_id).points == (MetricPoint("a", 1, 2.0),)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_is_kept_as_none(
    store: RunStore, claim: Claimed, value: float | None
) -> None:
    run_id = claim().run.id

    store.metrics.append(run_id, 1, [MetricPoint("train/loss", 1, value)])

    assert store.metrics.read(run_id).points == (MetricPoint("train/loss", 1, None),)


def test_read_of_some_names_moves_the_cursor_past_all(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.metrics.append(run_id, 1, [MetricPoint("a", 1, 1.0), MetricPoint("b", 1, 2.0)])

    page = store.metrics.read(run_id, names=["a", "never"])

    assert page.points == (MetricPoint("a", 1, 1.0),)
    assert store.metrics.read(run_id, names=["a"], after=page.cursor).points == ()
    assert store.metrics.read(run_id, names=[]).points == ()


def test_runs_do_not_see_each_others_points(store: RunStore, claim: Claimed) -> None:
    store.devices.set_slots(["cpu:0", "cpu:1"])
    one, two = claim().run.id, claim().run.id

    store.metrics.append(one, 1, _points("train/loss", range(2)))
    store.metrics.append(two, 1, _points("train/loss", range(2), offset=10))

    assert [point.value for point in store.metrics.read(one).points] == [0.0, 1.0]
    assert [point.value for point in store.metrics.read(two).points] == [10.0, 11.0]


def test_unknown_runs(store: RunStore) -> None:
    with pytest.raises(RunNotFoundError):
        store.metrics.read("a" * 16)
    with pytest.raises(RunNotFoundError):
        store.metrics.append("a" * 16, 1, _points("x", range(1)))
    assert store.metrics.names("a" * 16) == ()


def test_points_are_written_together_with_the_progress(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    progress, points = Progress(2, 4.5), _points("train/loss", range(3))
    assert store.metrics.append(run_id, 1, points, progress) is ControlRequest.NONE
    run = store.runs.get(run_id)
    assert (run.step, run.steps_per_second) == (2, 4.5)
    assert run.progress_at is not None
    store.runs.request(run_id, ControlRequest.STOP)
    assert store.metrics.append(run_id, 1, points) is ControlRequest.STOP
    assert store.runs.get(run_id).step == 2
    with pytest.raises(LeaseLostError):
        store.metrics.append(run_id, 2, _points("train/loss", range(9)), Progress(9, None))
    assert store.runs.get(run_id).step == 2
    assert len(store.metrics.read(run_id).points) == 3


def test_clear_after_drops_what_a_resume_does_again(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.metrics.append(run_id, 1, _points("a", range(10)) + _points("b", range(10)))
    store.notes.add_samples(run_id, 1, 4, ["kept"])
    store.notes.add_samples(run_id, 1, 8, ["dropped"])
    old = store.metrics.read(run_id).cursor

    store.metrics.clear_after(run_id, 1, 5)
    page = store.metrics.read(run_id, after=old)

    assert page.is_reset
    assert page.cursor > old
    assert {point.step for point in page.points} == set(range(6))
    assert len(page.points) == 12
    assert [sample.payload_json for sample in store.notes.samples(run_id)] == ["kept"]
    store.metrics.append(run_id, 1, _points("a", range(6, 8)))
    newer = store.metrics.read(run_id, after=page.cursor)
    assert list(newer.points) == _points("a", range(6, 8))
    assert not newer.is_reset


def test_clear_after_that_drops_nothing_resets_nobody(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.metrics.append(run_id, 1, _points("a", range(3)))
    cursor = store.metrics.read(run_id).cursor

    store.metrics.clear_after(run_id, 1, 2)

    page = store.metrics.read(run_id, after=cursor)
    assert (page.points, page.is_reset) == ((), False)


_BATCH = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.floats(-9, 9)), min_size=1, max_size=6
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(actions=st.lists(st.one_of(_BATCH, st.integers(0, 5), st.just("read")), max_size=12))
def test_a_reader_that_follows_the_cursor_holds_what_a_full_read_gives(
    store: RunStore, claim: Claimed, actions: list[object]
) -> None:
    """Whatever is appended, replaced and dropped between its reads."""
    store.devices.set_slots([f"cpu:{len(store.runs.list())}"])
    run_id = claim().run.id
    seen: dict[tuple[str, int], float | None] = {}
    cursor = 0

    for action in [*actions, "read"]:
        if isinstance(action, list):
            store.metrics.append(run_id, 1, [MetricPoint(*values) for values in action])
        elif isinstance(action, int):
            store.metrics.clear_after(run_id, 1, action)
        else:
            page = store.metrics.read(run_id, after=cursor)
            assert page.cursor >= cursor
            seen = {} if page.is_reset else seen
            seen |= {(point.name, point.step): point.value for point in page.points}
            cursor = page.cursor

    full = store.metrics.read(run_id).points
    assert seen == {(point.name, point.step): point.value for point in full}
    assert len(full) == len(seen)


def test_samples_of_a_step_are_replaced_together(store: RunStore, claim: Claimed) -> None:
    run_id = claim().run.id
    store.notes.add_samples(run_id, 1, 10, ["a", "b", "c"])
    store.notes.add_samples(run_id, 1, 20, ["d"])

    store.notes.add_samples(run_id, 1, 10, ["x"])

    assert store.notes.samples(run_id) == (SampleRecord(10, 0, "x"), SampleRecord(20, 0, "d"))
    assert store.notes.samples(run_id, step=20) == (SampleRecord(20, 0, "d"),)
    store.notes.add_samples(run_id, 1, 10, [])
    assert store.notes.samples(run_id, step=10) == ()


def test_events_are_kept_in_order(store: RunStore, claim: Claimed, clock: "Clock") -> None:
    run_id = claim().run.id

    store.notes.add_event(run_id, 1, "warning", "memory", "halved the batch")
    clock.advance(2)
    store.notes.add_event(run_id, None, "error", "lost", "the worker died")

    assert store.notes.events(run_id) == (
        EventRecord(1_000.0, "warning", "memory", "halved the batch"),
        EventRecord(1_002.0, "error", "lost", "the worker died"),
    )
    with pytest.raises(InvalidValueError, match="unknown level 'fatal'"):
        store.notes.add_event(run_id, None, "fatal", "x", "y")
    with pytest.raises(RunNotFoundError):
        store.notes.add_event("a" * 16, None, "info", "x", "y")
