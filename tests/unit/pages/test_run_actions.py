"""What people ask of runs, the log's end, the curve cache, and shown errors."""

import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import gradio as gr
import pytest

from pages import run_actions, run_view, runs
from pages.curve_cache import CurveCache
from pages.feedback import handler
from pages.log_tail import log_tail
from pages.page import AppContext
from pages.presenters.palette import RunLook
from seqmatch.errors import ConfigError
from storage import RunStore
from storage.records import ControlRequest, MetricPoint, Progress, RunStatus
from tests.browser.filled_store import fill


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    store = RunStore.open(tmp_path / "data")
    yield AppContext(store, store.data_dir, lambda: None, lambda _: False)
    store.close()


@pytest.fixture
def ids(context: AppContext) -> dict[str, str]:
    return fill(context.store)


def test_stopping_asks_active_runs_alone(context: AppContext, ids: dict[str, str]) -> None:
    said = run_actions.stop(context, list(ids.values()), ControlRequest.STOP_AND_SAVE)
    assert said == "Asked 2 runs to save and stop."
    assert context.store.runs.get(ids["running"]).control is ControlRequest.STOP_AND_SAVE
    assert context.store.runs.get(ids["queued"]).status is RunStatus.CANCELLED
    assert "None" in run_actions.stop(context, [ids["sft"]], ControlRequest.STOP)


def test_resuming_queues_failed_runs(context: AppContext, ids: dict[str, str]) -> None:
    run_actions.resume(context, [ids["failed"], ids["sft"]])
    assert context.store.runs.get(ids["failed"]).status is RunStatus.QUEUED
    assert context.store.runs.get(ids["sft"]).status is RunStatus.COMPLETED


def test_renaming_needs_a_name(context: AppContext, ids: dict[str, str]) -> None:
    assert run_actions.rename(context, ids["sft"], "  a \n b ") == "Renamed to a b."
    with pytest.raises(ConfigError, match="1 to 120"):
        run_actions.rename(context, ids["sft"], "   ")


def test_a_deletion_can_be_taken_back(context: AppContext, ids: dict[str, str]) -> None:
    run_actions.delete(context, [ids["sft"]])
    assert ids["sft"] not in [run.id for run in context.store.runs.list()]
    run_actions.restore(context, [ids["sft"]])
    assert ids["sft"] in [run.id for run in context.store.runs.list()]


def test_only_what_makes_sense_is_offered(context: AppContext, ids: dict[str, str]) -> None:
    def can(what: str) -> run_actions.Possible:
        return run_actions.possible([context.store.runs.get(ids[what])])

    assert can("running") == run_actions.Possible(stop=True, resume=False, one=True, delete=False)
    assert can("failed") == run_actions.Possible(stop=False, resume=True, one=True, delete=True)
    assert run_actions.possible([]) == run_actions.Possible(False, False, False, False)


def test_a_run_links_to_its_rival_and_its_adapter(context: AppContext, ids: dict[str, str]) -> None:
    shown = run_view.links_html(context, context.store.runs.get(ids["matching"]))
    artifact = context.store.artifacts.list(ids["matching"])[0]
    assert f'href="download/{artifact.id}"' in shown
    assert f"compare?runs={ids['matching']}%2C{ids['sft']}" in shown
    assert "download/" not in run_view.links_html(context, context.store.runs.get(ids["queued"]))


def test_an_unknown_run_says_so(context: AppContext) -> None:
    assert run_view.find(context, "<x>") is None
    assert "There is no run &lt;x&gt;" in run_view.missing_html("<x>")


def test_nothing_new_sends_nothing(context: AppContext, ids: dict[str, str]) -> None:
    run = context.store.runs.get(ids["running"])
    first = run_view.curve_parts(context, run, "light", {}, False)
    again = run_view.curve_parts(context, run, "light", first.seen, False)
    paused = run_view.curve_parts(context, run, "dark", first.seen, True)
    assert first.updates != again.updates
    assert again.updates == paused.updates
    chosen = [ids["sft"], ids["matching"]]
    drawn = runs.overlay(context, chosen, "", False, "light")
    assert runs.overlay(context, chosen, drawn[0], False, "light")[0] == drawn[0]


def test_the_cache_reads_on_and_forgets_points_that_were_dropped(
    context: AppContext, ids: dict[str, str]
) -> None:
    store = context.store
    cache = CurveCache(store)
    look = RunLook(0)
    run = store.runs.get(ids["running"])
    before, cursor = cache.of_run(run, look)
    store.runs.progress(run.id, run.attempt, Progress(1210, 12.0))
    store.metrics.append(run.id, run.attempt, [MetricPoint("eval/nll", 1210, 0.5)])
    after, later = cache.of_run(store.runs.get(run.id), look)
    assert later > cursor
    assert after.series["eval/nll"] == {**before.series["eval/nll"], 1210: 0.5}
    assert cache.of_run(store.runs.get(run.id), look)[1] == later
    store.metrics.clear_after(run.id, run.attempt, 1000)
    store.runs.progress(run.id, run.attempt, Progress(1000, 12.0))
    resumed, _ = cache.of_run(store.runs.get(run.id), look)
    assert max(resumed.series["eval/nll"]) == 1000


def test_the_log_is_the_newest_ones_end_without_terminal_codes(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == ""
    (tmp_path / "attempt-2.log").write_text("old")
    (tmp_path / "attempt-10.log").write_bytes(b"0%\r50%\r100%\n\x1b[31mred\x1b[0m \xff\x00end\n")
    assert log_tail(tmp_path) == "100%\nred \N{REPLACEMENT CHARACTER}end"
    (tmp_path / "attempt-11.log").write_text("".join(f"line {n}\n" for n in range(9999)))
    tail = log_tail(tmp_path, 100)
    assert tail.startswith("…\nline")
    assert tail.endswith("line 9998")


def test_a_handler_keeps_the_types_that_gradio_reads() -> None:
    def show(context: str, word: str, request: gr.Request) -> str:
        return context + word

    bound = handler(partial(show, "a"))
    assert list(inspect.signature(bound).parameters) == ["word", "request"]
    assert bound.__annotations__["request"] is gr.Request
    assert bound("b", None) == "ab"


def test_expected_errors_are_shown_in_words_and_others_as_a_number() -> None:
    def refuse() -> None:
        raise ConfigError("alpha is 0; allowed: above 0")

    def crash() -> None:
        raise ZeroDivisionError("secret path /home/ada")

    with pytest.raises(gr.Error) as shown:
        handler(refuse)()
    assert shown.value.message == "Alpha is 0; allowed: above 0."
    with pytest.raises(gr.Error) as hidden:
        handler(crash)()
    assert "secret" not in hidden.value.message
    assert "error" in hidden.value.message


def test_generators_show_their_errors_too() -> None:
    def stream() -> Iterator[int]:
        yield 1
        raise ConfigError("broke off")

    pieces = handler(stream)()
    assert next(pieces) == 1
    with pytest.raises(gr.Error, match="Broke off"):
        next(pieces)
