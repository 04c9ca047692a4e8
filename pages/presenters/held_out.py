"""The prompts that runs held out, as Compare offers them. Pure: no Gradio."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from seqmatch.base_models import BASE_MODELS
from seqmatch.config import DataConfig
from seqmatch.demonstrations import split
from seqmatch.errors import ConfigError
from seqmatch.text import plain_prompt
from seqmatch.types import Demonstration
from storage.records import DatasetRecord, RunRecord

_ESCAPES = {"\\n": "\n", "\\\\": "\\"}
_SHOWN_NAMES = 2


@dataclass(frozen=True)
class Split:
    """What decides which rows of a set are held out, and how its prompts become text."""

    dataset_id: str
    heldout_fraction: float
    split_seed: int
    base_model: str

    @property
    def value(self) -> str:
        """What a choice of the page holds."""
        parts = [self.dataset_id, self.heldout_fraction, self.split_seed, self.base_model]
        return json.dumps(parts)


@dataclass(frozen=True)
class HeldOut:
    """Held-out prompts, each once, and what was passed over."""

    prompts: tuple[str, ...]
    num_left_out: int
    """Held-out conversations of several messages, for which one text cannot stand."""


def split_of(run: RunRecord) -> Split:
    """Returns how a run splits its set."""
    data = DataConfig.model_validate(json.loads(run.config_json)["data"])
    return Split(run.dataset_id, data.heldout_fraction, data.split_seed, run.base_model)


def read_split(value: str) -> Split:
    """Returns the split of a choice.

    Raises:
        ConfigError: the text is none.
    """
    try:
        dataset_id, fraction, seed, base_model = json.loads(value)
        return Split(str(dataset_id), float(fraction), int(seed), str(base_model))
    except (ValueError, TypeError) as error:
        raise ConfigError("choose whose held-out prompts to take") from error


def split_choices(
    datasets: Sequence[DatasetRecord], runs: Sequence[RunRecord]
) -> list[tuple[str, str]]:
    """Returns (shown, value) of each split that runs have used, the newest first."""
    names = {one.id: one.name for one in datasets}
    groups: dict[Split, list[str]] = {}
    for run in runs:
        if run.dataset_id in names and run.deleted_at is None:
            groups.setdefault(split_of(run), []).append(run.name)
    return [
        (f"{_listed(used)} ({names[one.dataset_id]})", one.value) for one, used in groups.items()
    ]


def first_split(chosen: Sequence[str], runs: Sequence[RunRecord]) -> str | None:
    """Returns the split of the first run among the chosen policies, None where there is none."""
    by_value = {f"run:{run.id}": run for run in runs}
    found = (by_value[value] for value in chosen if value in by_value)
    return next((split_of(run).value for run in found), None)


def held_out(rows: Sequence[Demonstration], chosen: Split) -> HeldOut:
    """Returns the prompts that this split holds out, as the texts that Compare sends.

    Raises:
        DemonstrationError: the set cannot be split.
    """
    _, indices = split(rows, chosen.heldout_fraction, chosen.split_seed)
    texts = {rows[index].group: _as_text(rows[index], chosen.base_model) for index in indices}
    usable = [text for text in texts.values() if text is not None]
    return HeldOut(tuple(dict.fromkeys(usable)), len(texts) - len(usable))


def demonstrated(
    rows: Sequence[Demonstration], chosen: Split, prompts: Sequence[str]
) -> list[str | None]:
    """Returns the expert's answer to each prompt that this split holds out, None for others.

    Raises:
        DemonstrationError: the set cannot be split.
    """
    _, indices = split(rows, chosen.heldout_fraction, chosen.split_seed)
    answers: dict[str | None, str] = {}
    for index in indices:
        answers.setdefault(_as_text(rows[index], chosen.base_model), rows[index].completion)
    return [answers.get(prompt) for prompt in prompts]


def seen_by(chosen: Sequence[str], runs: Sequence[RunRecord], of: Split) -> list[str]:
    """Returns the names of chosen runs that trained on this set with another split."""
    by_value = {f"run:{run.id}": run for run in runs}
    same_set = [
        run for value in chosen if (run := by_value.get(value)) and run.dataset_id == of.dataset_id
    ]
    held = (of.heldout_fraction, of.split_seed)
    return [
        run.name
        for run in same_set
        if (split_of(run).heldout_fraction, split_of(run).split_seed) != held
    ]


def to_line(prompt: str) -> str:
    r"""Writes a prompt in one line: a line break as \n, a backslash as two."""
    return prompt.replace("\\", "\\\\").replace("\n", "\\n")


def from_line(line: str) -> str:
    r"""Reads a prompt of one line; undoes `to_line`. Other backslashes stand as they are."""
    return re.sub(r"\\[n\\]", lambda found: _ESCAPES[found.group()], line)


def taken_note(found: HeldOut, number: int, seen: Sequence[str]) -> str:
    """Says how many held-out prompts were taken, and what a reader must know of them."""
    taken = min(number, len(found.prompts))
    words = f"{taken} of {len(found.prompts):,} held-out prompts: no run of this split trained on "
    words += "it." if taken == 1 else "them."
    if found.num_left_out:
        words += (
            f" {found.num_left_out:,} held-out conversations of several messages are left out: a "
            "prompt here is one message."
        )
    if seen:
        words += f" ⚠ {_listed(seen)} split this set in another way and may have trained on some."
    return words


def _as_text(row: Demonstration, base_model: str) -> str | None:
    """The plain prompt that gives a policy the same tokens as the row; None where none does."""
    if isinstance(row.prompt, str):
        return row.prompt
    model = BASE_MODELS.get(base_model)
    if model is not None and model.source == "scratch":  # has no chat template
        return plain_prompt(row.prompt)
    is_one_turn = len(row.prompt) == 1 and row.prompt[0].role == "user"
    return row.prompt[0].content if is_one_turn else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"“{name}”" for name in names[:_SHOWN_NAMES])
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
