"""A sampled answer as tracked changes: actions in, escaped HTML out. Pure: needs no Gradio.

Reading order is the order of typing. A token that was taken back later stays where it was typed,
struck through and dimmed; a token typed where one had been taken back is underlined. The text of
models is escaped here, so a trace can never become markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Protocol

_VISIBLE = {"\n": "↵\n", "\t": "⇥\t", "\r": "␍"}
_NO_TEXT = "□"
_STOP = "∎"


class ActionCell(Protocol):
    """One action of a policy: a token with its text, or the backspace."""

    @property
    def id(self) -> int:
        """The action's id."""

    @property
    def text(self) -> str:
        """What the token adds; empty for backspace."""

    @property
    def is_backspace(self) -> bool:
        """True where the action takes back the last token."""

    @property
    def is_stop(self) -> bool:
        """True for the stop token, whose text is its name and no part of the answer."""


@dataclass(frozen=True)
class TypedToken:
    """A token that a trace typed, and what became of it."""

    id: int
    text: str
    is_deleted: bool
    is_retyped: bool
    """True where another token had been taken back at the same place before."""
    is_stop: bool = False


@dataclass(frozen=True)
class TraceCounts:
    """The counts of a trace: actions = tokens typed + deletions."""

    num_actions: int
    num_deletions: int
    num_tokens: int
    """Tokens that stand at the end."""


def tracked_changes(cells: Sequence[ActionCell], upto: int | None = None) -> tuple[TypedToken, ...]:
    """Replays the first `upto` actions (None: all) and tells what became of each typed token.

    A backspace with nothing left to take back changes nothing, as in the token MDP.
    """
    typed: list[TypedToken] = []
    standing: list[int] = []
    deleted_places: set[int] = set()
    for cell in cells[:upto]:
        if not cell.is_backspace:
            retyped = len(standing) in deleted_places
            standing.append(len(typed))
            typed.append(TypedToken(cell.id, cell.text, False, retyped, cell.is_stop))
        elif standing:
            index = standing.pop()
            typed[index] = replace(typed[index], is_deleted=True)
            deleted_places.add(len(standing))
    return tuple(typed)


def trace_counts(cells: Sequence[ActionCell], upto: int | None = None) -> TraceCounts:
    """Counts actions, deletions and standing tokens among the first `upto` actions."""
    shown = cells[:upto]
    num_deletions = sum(cell.is_backspace for cell in shown)
    num_standing = sum(not token.is_deleted for token in tracked_changes(shown))
    return TraceCounts(len(shown), num_deletions, num_standing)


def trace_html(cells: Sequence[ActionCell], upto: int | None = None) -> str:
    """Returns the first `upto` actions (None: all) as tracked changes in escaped HTML.

    Tokens of one kind that follow each other share one element, so that ligatures, combining
    characters and screen readers see running text. During a replay a caret marks the place where
    the next token goes.
    """
    parts: list[str] = []
    for kind, texts in _runs(tracked_changes(cells, upto)):
        show = stop_mark if kind == "stop" else visible_text
        parts.append(_element(kind, "".join(map(show, texts))))
    if upto is not None and upto < len(cells):
        parts.append('<span class="trace-caret" aria-hidden="true"></span>')
    body = "".join(parts) or '<span class="trace-empty">nothing typed</span>'
    return f'<div class="trace" dir="auto">{body}</div>'


def _runs(tokens: Sequence[TypedToken]) -> list[tuple[str, list[str]]]:
    runs: list[tuple[str, list[str]]] = []
    for token in tokens:
        kind = "deleted" if token.is_deleted else "retyped" if token.is_retyped else "typed"
        kind = "stop" if token.is_stop else kind
        if not runs or runs[-1][0] != kind:
            runs.append((kind, []))
        runs[-1][1].append(token.text)
    return runs


def _element(kind: str, escaped: str) -> str:
    if kind == "deleted":
        return f'<del class="trace-deleted" title="taken back">{escaped}</del>'
    if kind == "retyped":
        return f'<ins class="trace-retyped" title="typed after a deletion">{escaped}</ins>'
    return f"<span>{escaped}</span>"


def stop_mark(text: str) -> str:
    """Returns the sign of the stop token, whose name is `text`."""
    title = escape(f"the stop token, {text}", quote=True)
    return f'<span class="trace-mark" role="img" aria-label="stop" title="{title}">{_STOP}</span>'


def visible_text(text: str) -> str:
    """Returns a token's text, escaped, with marks where it breaks a line or has nothing to show."""
    if not text:
        return f'<span class="trace-mark" title="a token without text">{_NO_TEXT}</span>'
    pieces = []
    for character in text:
        mark = _VISIBLE.get(character)
        if mark is None:
            pieces.append(escape(character, quote=True) if character.isprintable() else "�")
        else:
            pieces.append(f'<span class="trace-mark" aria-hidden="true">{mark[0]}</span>{mark[1:]}')
    return "".join(pieces)
