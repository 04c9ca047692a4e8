"""Hypothesis walks runs through the store and holds it to a model of a few lines.

The store is the real one in a real file. Two runners compete, the clock is turned, and owners that
were superseded go on writing.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from storage import RunStore
from storage.errors import IllegalTransitionError, LeaseLostError
from storage.records import ControlRequest, MetricPoint, NewRun, Progress, RunStatus
from storage.runs import MAX_CRASHES

DATASET = "a" * 64
FINAL = [status for status in RunStatus if status.is_final]


@dataclass
class Model:
    """What a run should be."""

    status: RunStatus = RunStatus.QUEUED
    attempt: int = 0
    crashes: int = 0
    is_stopping: bool = False
    is_deleted: bool = False
    queued_at: float = 0.0
    steps: set[int] = field(default_factory=set)


class RunWalk(RuleBasedStateMachine):
    """The legal walk of runs, device slots and attempts."""

    runs = Bundle("runs")
    attempts = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.folder = tempfile.TemporaryDirectory()
        self.store = self._open()
        self.store.datasets.add(DATASET, "sums", 1, 0, "{}")
        self.store.devices.set_slots(["cpu:0", "cuda:0", "cuda:1"])
        self.model: dict[str, Model] = {}

    def _open(self) -> RunStore:
        return RunStore.open(Path(self.folder.name) / "data", clock=lambda: self.now)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    # ---- what happens

    @rule(target=runs, device=st.sampled_from(["auto", "cpu", "cuda:0", "cuda,cuda"]))
    def submit(self, device: str) -> str:
        new = NewRun("n", "{}", "sft", "", "m", DATASET, 0, 10, device=device)
        run_id = self.store.runs.create(new).id
        self.model[run_id] = Model(queued_at=self.now)
        return run_id

    @rule(target=attempts, runner=st.sampled_from(["one", "two"]))
    def claim(self, runner: str) -> object:
        waiting = [run for run in self.model.values() if run.status == RunStatus.QUEUED]
        claim = self.store.runs.claim(runner)
        if claim is None:
            busy = sum(run.status == RunStatus.RUNNING for run in self.model.values())
            assert not waiting or busy, "a waiting run and free devices, yet no claim"
            return multiple()
        model = self.model[claim.run.id]
        assert model.status == RunStatus.QUEUED
        assert claim.attempt == model.attempt + 1
        model.status, model.attempt, model.is_stopping = RunStatus.RUNNING, claim.attempt, False
        return (claim.run.id, claim.attempt)

    @rule(run=runs, control=st.sampled_from([c for c in ControlRequest if c != "none"]))
    def request(self, run: str, control: ControlRequest) -> None:
        self.store.runs.request(run, control)
        model = self.model[run]
        if model.status == RunStatus.QUEUED:
            model.status = RunStatus.CANCELLED
        elif model.status == RunStatus.RUNNING:
            model.is_stopping = True

    @rule(run=runs)
    def requeue(self, run: str) -> None:
        model = self.model[run]
        try:
            self.store.runs.requeue(run)
        except IllegalTransitionError:
            assert model.is_deleted or not model.status.is_final
            return
        assert not model.is_deleted
        assert model.status.is_final
        model.status, model.crashes, model.queued_at = RunStatus.QUEUED, 0, self.now

    @rule(run=runs)
    def delete(self, run: str) -> None:
        model = self.model[run]
        try:
            self.store.runs.delete(run)
        except IllegalTransitionError:
            assert model.status == RunStatus.RUNNING
            return
        assert model.status != RunStatus.RUNNING
        model.is_deleted = True
        if model.status == RunStatus.QUEUED:
            model.status = RunStatus.CANCELLED

    @rule(run=runs)
    def restore(self, run: str) -> None:
        self.store.runs.restore(run)
        self.model[run].is_deleted = False

    @rule(attempt=attempts, step=st.integers(0, 9))
    def write(self, attempt: tuple[str, int], step: int) -> None:
        run, number = attempt
        owns = self._owns(attempt)
        try:
            self.store.metrics.append(run, number, [MetricPoint("train/loss", step, 1.0)])
            self.store.runs.progress(run, number, Progress(step, None))
        except LeaseLostError:
            assert not owns
            return
        assert owns
        self.model[run].steps.add(step)

    @rule(attempt=attempts)
    def renew(self, attempt: tuple[str, int]) -> None:
        answer = self.store.runs.renew(*attempt)
        if answer is None:
            assert not self._owns(attempt)
        else:
            assert self._owns(attempt)
            assert (answer != ControlRequest.NONE) == self.model[attempt[0]].is_stopping

    @rule(attempt=consumes(attempts), status=st.sampled_from(FINAL))
    def finish(self, attempt: tuple[str, int], status: RunStatus) -> None:
        owns = self._owns(attempt)
        try:
            self.store.runs.finish(*attempt, status)
        except LeaseLostError:
            assert not owns
            return
        assert owns
        self.model[attempt[0]].status = status

    @rule(attempt=attempts, may_retry=st.booleans())
    def crash(self, attempt: tuple[str, int], may_retry: bool) -> None:
        model, owns = self.model[attempt[0]], self._owns(attempt)
        try:
            status = self.store.runs.crashed(*attempt, "lost", "died", may_retry=may_retry)
        except LeaseLostError:
            assert not owns
            return
        assert owns
        model.crashes += 1
        if model.is_stopping:
            assert status == RunStatus.CANCELLED
        elif may_retry and model.crashes <= MAX_CRASHES:
            assert status == RunStatus.QUEUED
            model.queued_at = self.now
        else:
            assert status == RunStatus.FAILED
        model.status = status

    @rule(seconds=st.integers(1, 400))
    def turn_the_clock(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = self._open()

    def _owns(self, attempt: tuple[str, int]) -> bool:
        model = self.model[attempt[0]]
        return model.status == RunStatus.RUNNING and model.attempt == attempt[1]

    # ---- what always holds

    @invariant()
    def the_store_agrees(self) -> None:
        records = {run.id: run for run in self.store.runs.list(include_deleted=True)}
        assert records.keys() == self.model.keys()
        for run_id, model in self.model.items():
            record = records[run_id]
            assert record.status == model.status
            assert record.attempt == model.attempt
            assert record.num_crashes == model.crashes
            assert record.queued_at == model.queued_at
            assert (record.deleted_at is not None) == model.is_deleted
            assert (record.ended_at is not None) == record.status.is_final
            assert (record.started_at is not None) == (record.attempt > 0)
            points = self.store.metrics.read(run_id).points
            assert {point.step for point in points} == model.steps

    @invariant()
    def slots_belong_to_running_runs(self) -> None:
        running = {run.id: run.device_slot for run in self.store.runs.active()}
        occupied: dict[str, list[str]] = {}
        for slot in self.store.devices.list():
            if slot.run_id:
                occupied.setdefault(slot.run_id, []).append(slot.name)
        assert running == {run: ",".join(sorted(slots)) for run, slots in occupied.items()}


TestRunWalk = RunWalk.TestCase
TestRunWalk.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
