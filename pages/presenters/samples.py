"""Answers sampled during training, as tracked changes beside what was demonstrated."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from pages.components.trace_view import trace_counts, trace_html
from storage.records import SampleRecord


@dataclass(frozen=True)
class _Cell:
    id: int
    text: str
    is_backspace: bool
    is_stop: bool


def samples_html(samples: Sequence[SampleRecord]) -> str:
    """Returns the samples of one evaluation, a card each."""
    if not samples:
        return '<p class="empty">No samples yet; the first come with the first evaluation.</p>'
    return f'<div class="samples">{"".join(map(_card, samples))}</div>'


def _card(sample: SampleRecord) -> str:
    trace: dict[str, Any] = json.loads(sample.payload_json)
    cells = _cells(trace)
    counts = trace_counts(cells)
    reference = trace.get("reference")
    facts = [
        f"{counts.num_actions} actions",
        f"{counts.num_deletions} deletion{'' if counts.num_deletions == 1 else 's'}",
    ]
    if not trace["is_finished"]:
        facts.append("reached the limit before it stopped")
    rows = [
        ("Prompt", escape(trace["prompt"])),
        ("Typed", trace_html(cells)),
        ("Answer", escape(trace["text"])),
    ]
    if reference is not None:
        rows.append(("Expert", escape(reference)))
        facts.append(
            "equals the expert's" if trace["text"] == reference else "differs from the expert's"
        )
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    return (
        f'<article class="sample"><dl>{body}'
        f'<dt></dt><dd class="verdict">{escape(", ".join(facts))}</dd></dl></article>'
    )


def _cells(trace: dict[str, Any]) -> list[_Cell]:
    # The backspace action has the id that follows the last token's: the largest, where it is used.
    backspace = max(trace["actions"], default=0) if trace["num_backspaces"] else None
    last = len(trace["actions"]) - 1 if trace["is_finished"] else None
    typed = zip(trace["actions"], trace["pieces"], strict=True)
    return [
        _Cell(action, piece, action == backspace, place == last)
        for place, (action, piece) in enumerate(typed)
    ]
