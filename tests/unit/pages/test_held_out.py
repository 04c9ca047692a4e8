"""Held-out prompts are those of the run's own split, as texts that give the run the same tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.presenters.held_out import (
    Split,
    demonstrated,
    first_split,
    from_line,
    held_out,
    read_split,
    seen_by,
    split_choices,
    split_of,
    taken_note,
    to_line,
)
from seqmatch.config import DataConfig, RunConfig
from seqmatch.demonstrations import split
from seqmatch.errors import ConfigError
from seqmatch.types import Demonstration, Message
from storage import RunStore
from storage.records import NewRun, RunRecord

SET = "a" * 64
SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    opened = RunStore.open(tmp_path / "data")
    yield opened
    opened.close()


def _run(store: RunStore, name: str, *, share: float = 0.2, seed: int = 3) -> RunRecord:
    data = DataConfig(dataset=SET, heldout_fraction=share, split_seed=seed)
    config = RunConfig(data=data)
    new = NewRun(name, config.model_dump_json(), "sft", "", config.base_model, SET, 0, 10)
    return store.runs.create(new)


def _rows(count: int) -> list[Demonstration]:
    return [Demonstration(f"p{i}", "a", f"p{i}") for i in range(count)]


def test_runs_of_one_split_share_a_choice(store: RunStore) -> None:
    store.datasets.add(SET, "Additions", 10, 0, "{}")
    first, second = _run(store, "first"), _run(store, "second")
    other = _run(store, "other", seed=4)
    offered = split_choices(store.datasets.list(), store.runs.list())
    choices = {value: shown for shown, value in offered}
    assert len(choices) == 2
    assert "first" in choices[split_of(first).value]
    assert "second" in choices[split_of(first).value]
    assert first_split(["base:x", f"run:{other.id}", f"run:{second.id}"], store.runs.list()) == (
        split_of(other).value
    )
    assert first_split(["base:x"], store.runs.list()) is None
    assert (
        read_split(split_of(other).value)
        == split_of(other)
        == Split(SET, 0.2, 4, "byte-llama-small")
    )
    chosen = [f"run:{first.id}", f"run:{other.id}"]
    assert seen_by(chosen, store.runs.list(), split_of(first)) == ["other"]


@pytest.mark.parametrize("value", ["", "x", "[]", '["a", "b", "c", "d"]', "3"])
def test_what_is_no_split_is_refused(value: str) -> None:
    with pytest.raises(ConfigError):
        read_split(value)


@pytest.mark.parametrize(("share", "seed"), [(0.1, 0), (0.3, 5)])
def test_prompts_are_those_that_training_holds_out(share: float, seed: int) -> None:
    rows = _rows(40)
    _, expected = split(rows, share, seed)
    found = held_out(rows, Split(SET, share, seed, "byte-llama-small"))
    assert list(found.prompts) == [rows[index].prompt for index in expected]
    assert found.num_left_out == 0


def test_the_experts_answer_is_known_of_prompts_that_were_held_out() -> None:
    rows = [Demonstration(f"p{i}", f"a{i}", f"p{i}") for i in range(20)]
    of = Split(SET, 0.2, 3, "byte-llama-small")
    trained, held = split(rows, 0.2, 3)
    asked = [f"p{held[0]}", "unknown", f"p{trained[0]}", f"p{held[1]}"]
    assert demonstrated(rows, of, asked) == [f"a{held[0]}", None, None, f"a{held[1]}"]


def test_conversations_are_taken_where_one_text_stands_for_them_and_counted_elsewhere() -> None:
    one = (Message("user", "hello"),)
    two = (Message("system", "be brief"), Message("user", "hello"))
    rows = [Demonstration(one, "a", "one"), Demonstration(two, "a", "two"), *_rows(2)]
    by_model = {}
    for name in (SMOLLM2, "byte-llama-small"):
        seeds = (held_out(rows, Split(SET, 0.5, seed, name)) for seed in range(20))
        by_model[name] = list(seeds)
    assert {prompt for found in by_model[SMOLLM2] for prompt in found.prompts} == {
        "hello",
        "p0",
        "p1",
    }
    assert max(found.num_left_out for found in by_model[SMOLLM2]) == 1
    texts = {prompt for found in by_model["byte-llama-small"] for prompt in found.prompts}
    assert "system: be brief\nuser: hello\nassistant: " in texts
    assert all(found.num_left_out == 0 for found in by_model["byte-llama-small"])


def test_the_note_says_what_was_left_out_and_who_has_seen_them() -> None:
    rows = [*_rows(4), Demonstration((Message("user", "a"), Message("assistant", "b")), "c", "x")]
    found = next(
        one
        for seed in range(50)
        if (one := held_out(rows, Split(SET, 0.5, seed, SMOLLM2))).num_left_out
    )
    note = taken_note(found, 1, ["other"])
    assert f"1 of {len(found.prompts)} held-out" in note
    assert "1 held-out conversations" in note
    assert "“other”" in note


@pytest.mark.parametrize("text", ["a\nb", "a\\nb", "\\", "\\frac{1}{2}\n\\\\", "plain"])
def test_a_prompt_survives_its_line(text: str) -> None:
    assert "\n" not in to_line(text)
    assert from_line(to_line(text)) == text


def test_a_typed_backslash_stands_as_it_is() -> None:
    assert from_line("\\frac") == "\\frac"
