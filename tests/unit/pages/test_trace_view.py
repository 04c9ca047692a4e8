"""The trace as tracked changes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.components.trace_view import trace_counts, trace_html, tracked_changes


@dataclass(frozen=True)
class Cell:
    id: int
    text: str
    is_backspace: bool = False
    is_stop: bool = False


STOP = Cell(258, "<eos>", is_stop=True)
BACK = Cell(259, "", is_backspace=True)


def cells(text: str) -> list[Cell]:
    """'<' is the backspace."""
    return [BACK if c == "<" else Cell(ord(c), c) for c in text]


def test_the_stop_token_is_a_mark_that_tells_its_name() -> None:
    html = trace_html([*cells("5<8"), STOP])
    assert 'title="the stop token, &lt;eos&gt;"' in html
    assert "&lt;eos&gt;" not in html.replace('title="the stop token, &lt;eos&gt;"', "")


def test_deleted_is_struck_and_retyped_is_underlined() -> None:
    html = trace_html(cells("57<8"))
    assert "<span>5</span>" in html
    assert '<del class="trace-deleted" title="taken back">7</del>' in html
    assert '<ins class="trace-retyped" title="typed after a deletion">8</ins>' in html


@pytest.mark.parametrize(
    ("typed", "deleted", "retyped"),
    [
        ("abc", "", ""),
        ("abc<<xy", "bc", "xy"),
        ("ab<xyz", "b", "x"),
        ("ab<x<y", "bx", "y"),
        ("<<a", "", ""),
        ("a<<b", "a", "b"),
    ],
)
def test_what_became_of_each_token(typed: str, deleted: str, retyped: str) -> None:
    tokens = tracked_changes(cells(typed))
    assert "".join(t.text for t in tokens if t.is_deleted) == deleted
    assert "".join(t.text for t in tokens if t.is_retyped and not t.is_deleted) == retyped


@given(st.text(alphabet="ab<", max_size=30), st.integers(0, 31))
def test_the_standing_tokens_are_what_a_plain_stack_leaves(typed: str, upto: int) -> None:
    stack: list[str] = []
    for character in typed[:upto]:
        if character != "<":
            stack.append(character)
        elif stack:
            stack.pop()
    standing = [t.text for t in tracked_changes(cells(typed), upto) if not t.is_deleted]
    assert standing == stack
    counts = trace_counts(cells(typed), upto)
    assert counts.num_tokens == len(stack)
    assert counts.num_actions == min(upto, len(typed))
    assert counts.num_deletions == typed[:upto].count("<")


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt;",
    "\x00\u202eevil\x1b[31m",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_text_of_a_model_never_becomes_markup(text: str) -> None:
    whole = trace_html([Cell(1, text), Cell(2, text), BACK, Cell(3, text)])
    by_character = trace_html([Cell(ord(c), c) for c in text])
    for html in (whole, by_character):
        assert "<script" not in html
        assert "<img" not in html
        assert "\x00" not in html
        assert "\u202e" not in html
    assert "&lt;" in whole or "<" not in text


def test_a_replay_stops_where_it_is_told_and_shows_the_caret() -> None:
    assert "trace-caret" in trace_html(cells("57<8"), upto=2)
    assert "<del" not in trace_html(cells("57<8"), upto=2)
    assert "trace-caret" not in trace_html(cells("57<8"))
    assert "trace-caret" in trace_html(cells("57"), upto=0)
    assert "nothing typed" in trace_html([])


def test_line_ends_and_tokens_without_text_are_seen() -> None:
    html = trace_html([Cell(1, "a\n"), Cell(2, "")])
    assert "↵</span>\n" in html
    assert "□" in html
