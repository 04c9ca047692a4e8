"""A comparison: from the request and the streamed pieces to columns, counts, a table and a CSV."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from pages.components.plain import plain, table
from pages.components.trace_view import TraceCounts, trace_counts, trace_html
from pages.presenters.spreadsheet import csv_link, to_csv
from seqmatch.jobs.task_types import ActionCell, GenerateChunk, GenerateRequest

HEADERS = (
    "Prompt",
    "Expert",
    "Policy",
    "Backspace",
    "Answer",
    "Finished",
    "Actions",
    "Deletions",
    "Tokens",
)


@dataclass
class Answer:
    """One answer so far: one policy, with or without backspace, on one prompt."""

    prompt: str
    reference: str | None
    """The expert's answer; None where it is not known."""
    policy: str
    backspace: bool
    cells: list[ActionCell] = field(default_factory=list)
    is_done: bool = False
    is_finished: bool = True
    """False where a limit ended it before the stop token; known once it is done."""
    text: str = ""
    error: str = ""
    """Why there is no answer; empty where there is one."""
    has_backspace: bool = True
    """False where the policy has no such action; known once it is done."""

    @property
    def counts(self) -> TraceCounts:
        """Actions, deletions and standing tokens so far."""
        return trace_counts(self.cells)


Answers = dict[tuple[int, int, bool], Answer]
"""Answers by (prompt, policy, backspace), in the order shown."""


def gather(request: GenerateRequest, chunks: Iterable[GenerateChunk]) -> Answers:
    """Puts the streamed pieces together."""
    answers = {
        (row, column, backspace): Answer(prompt, reference, policy.label, backspace)
        for row, (prompt, reference) in enumerate(_asked(request))
        for column, policy in enumerate(request.policies)
        for backspace in request.backspace
    }
    for chunk in chunks:
        answer = answers[chunk.prompt_index, chunk.policy_index, chunk.backspace]
        answer.cells.extend(chunk.actions)
        if chunk.is_done:
            answer.is_done = True
            answer.text = chunk.text or ""
            answer.error = chunk.error or ""
            answer.is_finished = chunk.is_finished is not False
            answer.has_backspace = chunk.has_backspace is not False
    return answers


def _asked(request: GenerateRequest) -> list[tuple[str, str | None]]:
    known = request.references or [None] * len(request.prompts)
    return list(zip(request.prompts, known, strict=True))


def longest(answers: Iterable[Answer]) -> int:
    """Returns the number of actions of the longest answer: the end of the replay slider."""
    return max((len(answer.cells) for answer in answers), default=0)


def comparison_html(request: GenerateRequest, answers: Answers, upto: int | None) -> str:
    """Returns the answers side by side, one band a prompt, as escaped HTML.

    `upto` replays: only that many actions of each answer are shown; None shows all.
    """
    bands = []
    for row, (prompt, reference) in enumerate(_asked(request)):
        columns = [
            _column(answer, upto) for (index, _, _), answer in answers.items() if index == row
        ]
        bands.append(
            f'<section class="compare-band" aria-label="Prompt {row + 1}">'
            f'<h3 class="compare-prompt"><span class="compare-number">Prompt {row + 1}</span>'
            f'<span class="compare-text" dir="auto">{escape(prompt)}</span></h3>'
            f"{_reference(reference)}"
            f'<div class="compare-columns">{"".join(columns)}</div></section>'
        )
    return "".join(bands)


def table_rows(answers: Iterable[Answer]) -> list[list[str | int]]:
    """Returns one row an answer, in the order of `HEADERS`."""
    return [
        [
            answer.prompt,
            answer.reference or "",
            answer.policy,
            _mode(answer),
            answer.text if answer.is_done else "".join(_standing(answer)),
            _ending(answer),
            answer.counts.num_actions,
            answer.counts.num_deletions,
            answer.counts.num_tokens,
        ]
        for answer in answers
    ]


def table_html(rows: Sequence[Sequence[str | int]]) -> str:
    """Returns the rows as a table of plain text, with a link that saves them as CSV."""
    shown = [[str(value) for value in row] for row in rows]
    return (
        f"<p>{csv_link('comparison.csv', to_csv(HEADERS, rows))}</p>"
        f"{table(HEADERS, shown, 'All answers', numbers=(6, 7, 8))}"
    )


def _column(answer: Answer, upto: int | None) -> str:
    counts = trace_counts(answer.cells, upto)
    state = "" if answer.is_done else '<span class="compare-live">writing …</span>'
    body = _body(answer, upto)
    return (
        f'<article class="compare-column"><header><strong>{escape(answer.policy)}</strong>'
        f'<span class="compare-mode">{_mode(answer)}</span>{state}</header>{body}'
        f'<p class="compare-counts">{_count(counts.num_actions, "action")} · '
        f"{_count(counts.num_deletions, 'deletion')} · "
        f"{_count(counts.num_tokens, 'token')}</p></article>"
    )


def _reference(reference: str | None) -> str:
    if reference is None:
        return ""
    return (
        '<p class="compare-reference"><span class="compare-number">Expert</span>'
        f'<span class="compare-text" dir="auto">{escape(reference)}</span></p>'
    )


def _mode(answer: Answer) -> str:
    if not answer.backspace:
        return "without backspace"
    return "with backspace" if answer.has_backspace else "has no backspace action"


def _body(answer: Answer, upto: int | None) -> str:
    if answer.error:
        return plain(f"⚠ {answer.error}", "problem")
    if answer.cells or answer.is_done:
        return trace_html(answer.cells, upto)
    return '<div class="trace"><span class="trace-empty">waiting for the first token</span></div>'


def _count(value: int, noun: str) -> str:
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def _standing(answer: Answer) -> list[str]:
    texts: list[str] = []
    for cell in answer.cells:
        if not cell.is_backspace:
            texts.append("" if cell.is_stop else cell.text)
        elif texts:
            texts.pop()
    return texts


def _ending(answer: Answer) -> str:
    if answer.error:
        return "failed"
    if not answer.is_done:
        return "not yet"
    return "yes" if answer.is_finished else "limit reached"
