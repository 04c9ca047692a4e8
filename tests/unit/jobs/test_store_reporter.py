"""Reports reach the store, survive its absence, and never raise."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

from seqmatch.jobs.attempt_files import spool_path
from seqmatch.jobs.reports import read_spool, replay_spool
from seqmatch.jobs.store_reporter import StoreReporter
from seqmatch.reporting import Control, Trace
from storage import RunStore
from storage.records import Claim, ControlRequest, MetricPoint, RunStatus
from storage.schema import DATABASE_NAME

HOLD = """
import sqlite3
connection = sqlite3.connect({path!r}, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
input()
connection.execute("ROLLBACK")
"""
TRACE = Trace("2+2=", (52, 256), ("4", ""), "4", 1, True, "4")


def test_everything_reported_is_in_the_store_after_a_flush(store: RunStore, claim: Claim) -> None:
    run_id = claim.run.id
    reporter = StoreReporter(store, run_id, claim.attempt)
    reporter.phase("training")
    reporter.metrics(1, {"train/loss": 2.5, "train/nll": float("nan")})
    reporter.samples(1, [TRACE])
    reporter.event("warning", "odd", "something odd")
    zipped = store.run_dir(run_id) / "adapter.zip"
    zipped.write_bytes(b"zip")
    reporter.artifact("adapter_zip", zipped)
    reporter.progress(1, 10)
    reporter.flush()
    run = store.runs.get(run_id)
    assert (run.phase, run.step) == ("training", 1)
    points = store.metrics.read(run_id).points
    assert set(points) == {MetricPoint("train/loss", 1, 2.5), MetricPoint("train/nll", 1, None)}
    sample = json.loads(store.notes.samples(run_id)[0].payload_json)
    assert sample["pieces"] == ["4", ""]
    assert [event.code for event in store.notes.events(run_id)] == ["odd"]
    assert [artifact.filename for artifact in store.artifacts.list(run_id)] == ["adapter.zip"]
    reporter.close()


def test_numbers_between_other_reports_keep_their_order(store: RunStore, claim: Claim) -> None:
    reporter = StoreReporter(store, claim.run.id, claim.attempt)
    for step in range(1, 4):
        reporter.metrics(step, {"train/loss": float(step)})
        reporter.event("warning", f"at_{step}", "said between two numbers")
    for step in range(4, 6):
        reporter.metrics(step, {"train/loss": float(step)})
        reporter.progress(step, 10)
    reporter.close()
    points = store.metrics.read(claim.run.id).points
    assert [(point.step, point.value) for point in points] == [
        (at, float(at)) for at in range(1, 6)
    ]
    codes = [event.code for event in store.notes.events(claim.run.id)]
    assert codes == ["at_1", "at_2", "at_3"]
    assert store.runs.get(claim.run.id).step == 5


def test_a_request_is_heard_and_a_lost_lease_stops(store: RunStore, claim: Claim) -> None:
    reporter = StoreReporter(store, claim.run.id, claim.attempt)
    assert reporter.progress(1, 10) is Control.GO_ON
    store.runs.request(claim.run.id, ControlRequest.STOP_AND_SAVE)
    reporter.flush()
    assert reporter.progress(2, 10) is Control.STOP_AND_SAVE
    store.runs.finish(claim.run.id, claim.attempt, RunStatus.CANCELLED)
    reporter.metrics(3, {"train/loss": 1.0})
    reporter.flush()
    assert reporter.is_superseded
    assert reporter.progress(3, 10) is Control.STOP
    reporter.close()
    assert store.metrics.read(claim.run.id).points == ()


def test_an_interruption_saves_unless_a_plain_stop_was_asked(store: RunStore, claim: Claim) -> None:
    reporter = StoreReporter(store, claim.run.id, claim.attempt)
    reporter.interrupt()
    assert reporter.progress(1, 10) is Control.STOP_AND_SAVE
    store.runs.request(claim.run.id, ControlRequest.STOP)
    assert reporter.progress(2, 10) is Control.STOP
    reporter.close()


def test_unknown_metrics_and_foreign_files_are_told_not_kept(
    store: RunStore, claim: Claim, tmp_path: Path
) -> None:
    reporter = StoreReporter(store, claim.run.id, claim.attempt)
    reporter.metrics(1, {"train/los": 1.0})
    foreign = tmp_path / "foreign.zip"
    foreign.write_bytes(b"zip")
    reporter.artifact("adapter_zip", foreign)
    reporter.close()
    codes = [event.code for event in store.notes.events(claim.run.id)]
    assert codes == ["unknown_metric", "report_refused"]
    assert store.artifacts.list(claim.run.id) == ()


def test_reports_wait_in_a_spool_while_the_store_is_locked(store: RunStore, claim: Claim) -> None:
    run_id = claim.run.id
    spool = spool_path(store.run_dir(run_id))
    code = HOLD.format(path=str(store.data_dir / DATABASE_NAME))
    # In a process of its own: SQLite's locks do not keep one process from itself.
    other = subprocess.Popen([sys.executable, "-c", code], stdin=PIPE, stdout=PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"locked\n"
    reporter = StoreReporter(store, run_id, claim.attempt)
    reporter.metrics(1, {"train/loss": 1.0})
    reporter.metrics(2, {"train/loss": 2.0})
    reporter.flush()  # returns, since the spool is durable
    assert len(read_spool(spool)) == 2
    other.communicate(b"\n")
    reporter.close()
    assert not spool.exists()
    points = store.metrics.read(run_id).points
    assert points == (MetricPoint("train/loss", 1, 1.0), MetricPoint("train/loss", 2, 2.0))


def test_a_spool_that_a_death_cut_off_is_replayed_as_far_as_it_goes(
    store: RunStore, claim: Claim
) -> None:
    run_id = claim.run.id
    spool = spool_path(store.run_dir(run_id))
    point = {"name": "train/loss", "step": 3, "value": 0.5}
    spool.write_text(json.dumps(["metrics", {"points": [point]}]) + '\n["metrics", {"poi')
    for _ in range(2):  # a replay after a replay that died before deleting
        text = spool.read_text()
        replay_spool(store, run_id, claim.attempt, spool)
        spool.write_text(text)
    assert store.metrics.read(run_id).points == (MetricPoint("train/loss", 3, 0.5),)
