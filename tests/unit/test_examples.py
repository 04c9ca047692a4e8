"""The bundled examples: what they hold, that they pass our own inspection, and their settings."""

import json
from pathlib import Path

import pytest

from seqmatch.config import RunConfig
from seqmatch.demonstrations import split
from seqmatch.errors import UnknownNameError
from seqmatch.examples import EXAMPLES, Example, arithmetic, get_example, prepare_example
from seqmatch.ingest import freeze, inspect_upload, read_frozen
from seqmatch.objectives import CONFIGS

all_examples = pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda one: one.name)


def test_arithmetic_is_true_unique_and_seeded() -> None:
    rows = arithmetic.generate(0)
    pairs = set()
    for row in rows:
        first, second = map(int, str(row.prompt).removesuffix("=").split("+"))
        assert row.completion == str(first + second)
        assert 100 <= min(first, second) <= max(first, second) <= 999
        pairs.add(frozenset((first, second)) if first != second else first)
    assert len(pairs) == len(rows) == 5500
    assert rows == arithmetic.generate(0) != arithmetic.generate(1)
    fraction = EXAMPLES["arithmetic"].suggested_config["data"]["heldout_fraction"]
    assert [len(part) for part in split(rows, fraction, 0)] == [5000, 500]


@all_examples
def test_an_example_freezes_once_and_comes_back(example: Example, tmp_path: Path) -> None:
    first, second = (prepare_example(example.name, tmp_path) for _ in range(2))
    assert first == second
    assert read_frozen(first.folder) == example.load()


@all_examples
def test_an_example_uploaded_as_a_file_is_the_same_set(example: Example, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": row.prompt, "completion": row.completion} for row in example.load()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = inspect_upload([path], work_dir=tmp_path / "work")
    assert report.num_refused == 0
    assert freeze(report, tmp_path).sha256 == prepare_example(example.name, tmp_path).sha256


@all_examples
@pytest.mark.parametrize("kind", list(CONFIGS))
def test_the_suggested_settings_are_a_config(example: Example, kind: str) -> None:
    settings = example.suggested[kind]
    config = RunConfig.model_validate(settings | {"data": settings["data"] | {"dataset": "x"}})
    assert config.objective.kind == kind
    assert config.objective.backspace == (kind != "spin")


@all_examples
def test_no_example_repeats_a_prompt(example: Example) -> None:
    prompts = [row.prompt for row in example.load()]
    assert len(set(prompts)) == len(prompts)


def test_the_committed_set_has_its_licence_beside_it() -> None:
    folder = Path(arithmetic.__file__).parent
    licence = (folder / "instructions.LICENSE.txt").read_text()
    assert "Redistribution and use in source and binary forms" in licence
    assert "Gunther Cox" in licence
    assert "chatterbot-corpus" in (folder / "instructions.SOURCE.md").read_text()


def test_an_unknown_example_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="arithmetic, instructions"):
        get_example("none")
