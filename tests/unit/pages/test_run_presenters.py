"""Runs in words, escaped."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest

from pages.page import AppContext
from pages.presenters.configs import config_diff, config_html
from pages.presenters.palette import run_looks
from pages.presenters.runs import run_html, runs_table, status_sentence
from pages.presenters.samples import samples_html
from pages.presenters.wording import ago, amount, duration, number, size
from pages.run_view import head_html, settings_html
from seqmatch.config import RunConfig
from seqmatch.flags import FLAGS
from seqmatch.reporting import COMPUTING
from storage import RunStore
from storage.records import ControlRequest, EventRecord, RunRecord, RunStatus
from tests.browser.filled_store import HOSTILE_NAME, fill


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.open(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def runs(store: RunStore) -> dict[str, RunRecord]:
    return {what: store.runs.get(run_id) for what, run_id in fill(store).items()}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (180, "3 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
        (200_000, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_times_and_sizes() -> None:
    shown = [number(value) for value in (None, 1234.0, 17549.6, 0.0123456, 1e9)]
    assert shown == ["–", "1,234", "17,550", "0.01235", "1e+09"]
    assert ago(100.0, 105.0) == "just now"
    assert ago(0.0, 180.0) == "3 min ago"
    assert [size(value) for value in (12, 9_400_000)] == ["12 bytes", "9.4 MB"]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.25, "nats", "0.25 nats"),
        (3.0, "", "3"),
        (0.6328, "share of actions", "63.28 % of actions"),
        (1.0, "share", "100 %"),
        (0.0765, "0 to 2", "0.0765 (of 0 to 2)"),
        (None, "nats", "not finite"),
    ],
)
def test_amounts_have_their_unit(value: float | None, unit: str, words: str) -> None:
    assert amount(value, unit) == words


def test_a_run_that_was_resumed_says_why(runs: dict[str, RunRecord]) -> None:
    now = runs["running"].created_at + 3
    crashed = replace(runs["running"], num_crashes=1, attempt=2)
    assert status_sentence(crashed, now).endswith("this is attempt 2, resumed by itself.")
    by_hand = replace(runs["running"], attempt=3)
    assert status_sentence(by_hand, now).endswith("Resumed: attempt 3.")
    waiting = replace(runs["queued"], num_crashes=1, step=40)
    assert "starts again from the newest checkpoint up to step 40" in status_sentence(waiting, now)


def test_a_status_is_a_sentence(runs: dict[str, RunRecord]) -> None:
    now = runs["running"].created_at + 3
    running = status_sentence(runs["running"], now)
    assert running == "Running: training, step 1,200 of 3,000, about 2 min left."
    quiet = status_sentence(runs["running"], now + 600)
    assert "No step for 10 min." in quiet
    stopping = replace(runs["running"], control=ControlRequest.STOP_AND_SAVE)
    assert status_sentence(stopping, now).startswith("Stopping and saving")
    assert status_sentence(runs["queued"], now, 2) == "Waiting for a free device, behind 2 others."
    assert status_sentence(runs["failed"], now).startswith("Failed at step 600 of 3,000")
    assert status_sentence(runs["sft"], now).startswith("Done: 3,000 steps")


def test_names_are_escaped_everywhere(store: RunStore, runs: dict[str, RunRecord]) -> None:
    looks = run_looks(store.runs.list(include_deleted=True))
    datasets = {one.id: one for one in store.datasets.list()}
    failed = runs["failed"]
    shown = runs_table(store.runs.list(), datasets, looks, 0.0)
    shown += run_html(failed, datasets[failed.dataset_id], looks[failed.id], 0.0, 0)
    shown += config_diff([(HOSTILE_NAME, failed.config_json), ("b", runs["sft"].config_json)])
    shown += samples_html(store.notes.samples(failed.id, step=500))
    assert "<img" not in shown
    assert "<b>0" not in shown
    assert "&lt;img" in shown


def flag_event(code: str, message: str = "What was seen.") -> EventRecord:
    return EventRecord(at=1.0, level="warning", code=f"flag_{code}", message=message)


def head(store: RunStore, run: RunRecord, *events: EventRecord) -> str:
    looks = run_looks(store.runs.list(include_deleted=True))
    return run_html(run, None, looks[run.id], run.created_at, 0, events)


def test_a_run_without_flags_has_no_badge_of_one(
    store: RunStore, runs: dict[str, RunRecord]
) -> None:
    resumed = EventRecord(at=1.0, level="info", code="resumed", message="from step 5")
    shown = head(store, runs["running"], resumed)
    assert shown == head(store, runs["running"])
    assert "flag" not in shown


@pytest.mark.parametrize("code", list(FLAGS))
def test_a_flag_is_a_badge_and_a_line(
    code: str, store: RunStore, runs: dict[str, RunRecord]
) -> None:
    other = EventRecord(at=1.0, level="info", code="resumed", message="from step 5")
    shown = head(store, runs["running"], flag_event(code), other, flag_event(code))
    info = FLAGS[code]
    assert shown.count(f'<span class="badge flag">{info.title}</span>') == 1
    assert shown.count(f"{info.title.capitalize()}.</strong> {info.meaning} {info.advice}") == 1
    assert shown.count('class="badge flag"') == 1
    assert shown.index("status-line") < shown.index('class="flags"') < shown.index("<progress")


def test_all_flags_of_a_run_are_shown(store: RunStore, runs: dict[str, RunRecord]) -> None:
    shown = head(store, runs["running"], *map(flag_event, FLAGS))
    places = [shown.index(f'flag">{info.title}<') for info in FLAGS.values()]
    assert places == sorted(places)


def test_a_flag_of_another_version_is_shown_in_its_own_words_and_escaped(
    store: RunStore, runs: dict[str, RunRecord]
) -> None:
    shown = head(store, runs["failed"], flag_event("out_of_<b>ink</b>", HOSTILE_NAME))
    assert "out of &lt;b&gt;ink&lt;/b&gt;</span>" in shown
    assert escape(HOSTILE_NAME) in shown
    assert "<img" not in shown
    assert "<b>" not in shown


def test_the_run_page_takes_flags_from_the_store(
    store: RunStore, runs: dict[str, RunRecord]
) -> None:
    run = runs["sft"]
    context = AppContext(store, store.data_dir, lambda: None, lambda _: False)
    assert "badge flag" not in head_html(context, run)
    store.notes.add_event(run.id, None, "warning", "flag_policy_collapsed", "What was seen.")
    assert 'badge flag">policy collapsed<' in head_html(context, run)
    assert "badge flag" not in head_html(context, runs["matching"])


def test_looks_stay_when_a_run_is_deleted(store: RunStore, runs: dict[str, RunRecord]) -> None:
    before = run_looks(store.runs.list(include_deleted=True))
    store.runs.delete(runs["sft"].id)
    assert run_looks(store.runs.list(include_deleted=True)) == before
    assert len({look.index for look in before.values()}) == len(before)


def test_an_empty_table_says_what_to_do() -> None:
    assert "No runs yet" in runs_table([], {}, {}, 0.0)


def test_settings_are_shown_with_the_titles_of_the_form(runs: dict[str, RunRecord]) -> None:
    config = RunConfig.model_validate_json(runs["matching"].config_json)
    shown = config_html(config, "Three-digit addition")
    assert "Entropy weight alpha" in shown
    assert "Three-digit addition" in shown
    assert "Chi-square mixture" in shown
    assert "Order" not in shown
    assert "<dt>Precision</dt><dd>What suits the device</dd>" in shown
    assert "Computes" not in shown


def test_the_settings_tell_what_the_last_start_computed_on(
    store: RunStore, runs: dict[str, RunRecord]
) -> None:
    run = runs["sft"]
    context = AppContext(store, store.data_dir, lambda: None, lambda _: False)
    for how in ("on cpu, in float32", "on cuda:1, in bfloat16"):
        store.notes.add_event(run.id, None, "info", COMPUTING, how)
    shown, _ = settings_html(context, run)
    assert "<dt>Computes</dt><dd>on cuda:1, in bfloat16</dd>" in shown
    assert "in float32" not in shown


def test_only_differences_are_listed(runs: dict[str, RunRecord]) -> None:
    shown = config_diff([(run.name, run.config_json) for run in (runs["sft"], runs["matching"])])
    paths = re.findall(r"<td[^>]*>([a-z_]+\.[a-z_.]+)</td>", shown)
    assert "objective.kind" in paths
    assert "optimization.num_steps" not in paths
    same = config_diff([("a", runs["sft"].config_json), ("b", runs["sft"].config_json)])
    assert "same settings" in same


def test_a_sample_shows_what_was_taken_back(store: RunStore, runs: dict[str, RunRecord]) -> None:
    shown = samples_html(store.notes.samples(runs["matching"].id, step=500))
    assert re.search(r'trace-deleted"[^>]*>8<', shown)
    assert re.search(r'trace-retyped"[^>]*>7', shown)
    assert "1 deletion," in shown
    assert "reached the limit" in shown
    assert runs["matching"].status is RunStatus.COMPLETED
