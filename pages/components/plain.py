"""Plain text for `gr.HTML`: escaped, with a place in the page for screen readers."""

from collections.abc import Sequence
from html import escape
from typing import Literal

Tone = Literal["note", "good", "problem", "empty", "waiting"]


def plain(text: str, tone: Tone = "note") -> str:
    """Returns a line or several of plain text; a problem and a wait are announced as they come."""
    if not text:
        return ""
    lines = "<br>".join(escape(line) for line in text.split("\n"))
    role = ' role="status"' if tone in ("problem", "waiting", "good") else ""
    return f'<p class="say say-{tone}"{role}>{lines}</p>'


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], caption: str, numbers: Sequence[int] = ()
) -> str:
    """Returns a table of plain text that scrolls in itself; columns in `numbers` align right."""
    css = ["number" if index in numbers else "" for index in range(len(headers))]
    return markup_table(headers, [[escape(value) for value in row] for row in rows], caption, css)


def markup_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    css: Sequence[str],
    *,
    as_cards: bool = False,
) -> str:
    """Returns a table of cells that are markup already: the caller has escaped them.

    On a narrow screen it scrolls in itself; `as_cards` makes each row a card there.
    """
    table_class = "plain-table cards" if as_cards else "plain-table"
    head = "".join(
        f'<th scope="col" class="{name}">{escape(header)}</th>'
        for header, name in zip(headers, css, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{name}" data-label="{escape(header, quote=True)}">{cell}</td>'
            for cell, name, header in zip(row, css, headers, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="{table_class}"><caption class="visually-hidden">{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
