"""The estimate on Train: what an earlier run took goes before arithmetic."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pages.presenters.estimates import estimate_html, measured_like
from pages.presenters.wording import duration
from pages.row_lengths import BYTE_MODEL_TOKENS, mean_tokens
from seqmatch.config import DataConfig, OptimizationConfig, RunConfig
from seqmatch.estimates import estimate
from seqmatch.ingest.frozen import ROWS, freeze_demonstrations
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.types import Demonstration
from storage import RunStore
from storage.records import NewRun, RunRecord, RunStatus

CONFIG = RunConfig(data=DataConfig(dataset="a" * 64))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.open(tmp_path / "data")
    yield opened
    opened.close()


def _finished(store: RunStore) -> RunRecord:
    text = CONFIG.model_dump_json()
    new = NewRun("earlier", text, "sft", "", CONFIG.base_model, CONFIG.data.dataset, 0, 3000)
    store.datasets.add(CONFIG.data.dataset, "set", 10, 0, "{}")
    run = store.runs.create(new)
    return replace(
        run,
        status=RunStatus.COMPLETED,
        attempt=1,
        step=3000,
        started_at=100.0,
        ended_at=400.0,
        peak_memory_bytes=640_000_000,
    )


def test_a_finished_run_like_this_one_gives_the_figures(store: RunStore) -> None:
    run = _finished(store)
    twice = CONFIG.model_copy(update={"optimization": OptimizationConfig(num_steps=6000)})
    html = estimate_html(twice, 1, [run], None)
    assert "about 10 min" in html
    assert "640 MB" in html
    assert "earlier" in html


def test_a_short_run_does_not_count_its_start_for_every_step(store: RunStore) -> None:
    short = CONFIG.model_copy(update={"optimization": OptimizationConfig(num_steps=40)})
    expected, long = estimate(short).seconds, estimate(CONFIG).seconds
    run = replace(
        _finished(store),
        config_json=short.model_dump_json(),
        step=40,
        ended_at=100.0 + 2 * expected,
    )
    html = estimate_html(CONFIG, 1, [run], None)
    assert CONFIG.optimization.num_steps / 40 > 2 * long / expected, "the start matters here"
    assert f"about {duration(2 * long)}" in html, "everything took twice what arithmetic says"


def test_several_devices_are_told_what_they_share(store: RunStore) -> None:
    assert "share every batch" not in estimate_html(CONFIG, 1, [], None)
    two = CONFIG.model_copy(update={"device": "cpu,cpu"})
    html = estimate_html(two, 1, [], None)
    assert "Memory of each of 2 processes" in html
    assert "2 processes share every batch" in html
    assert "they share its cores" in html
    like = replace(_finished(store), config_json=two.model_dump_json())
    assert "320 MB" in estimate_html(two, 1, [like], None), "of each: the peak is that of both"


def test_other_runs_say_nothing_of_this_one(store: RunStore) -> None:
    run = _finished(store)
    smaller = CONFIG.model_copy(update={"optimization": OptimizationConfig(batch_size=8)})
    assert measured_like(CONFIG, [run]) is run
    assert measured_like(smaller, [run]) is None
    again = CONFIG.model_copy(update={"gradient_checkpointing": True})
    assert measured_like(again, [run]) is None
    with_backspace = CONFIG.model_copy(update={"objective": SFTConfig(backspace=True)})
    assert measured_like(with_backspace, [run]) is None
    assert measured_like(CONFIG, [replace(run, attempt=2)]) is None
    assert measured_like(CONFIG, [replace(run, status=RunStatus.FAILED)]) is None
    assert "no run like this one" in estimate_html(CONFIG, 1, [], 14.0)


def test_a_run_that_samples_says_nothing_of_one_that_does_not(store: RunStore) -> None:
    run = _finished(store)
    sampling = CONFIG.model_copy(update={"objective": SequenceMatchConfig()})
    offline = CONFIG.model_copy(update={"objective": SequenceMatchConfig(offline=True)})
    run = replace(run, config_json=sampling.model_dump_json())
    assert measured_like(sampling, [run]) is run
    assert measured_like(offline, [run]) is None


def test_the_length_of_rows_is_counted_in_bytes_or_guessed(tmp_path: Path) -> None:
    rows = [Demonstration(f"{i}+{i}=", "é", f"g{i}") for i in range(10)]
    frozen = freeze_demonstrations(rows, tmp_path)
    path = tmp_path / frozen.sha256 / ROWS
    assert mean_tokens(path, "byte-llama-small", 64) == 6 + BYTE_MODEL_TOKENS
    assert mean_tokens(path, "byte-llama-small", 5) == 5
    assert mean_tokens(path, "smollm2-135m-instruct", 512) > 6 / 4
