"""Tables as CSV that a spreadsheet opens without running anything, and links that save them."""

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from html import escape

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
Cell = str | int | float


def safe_text(text: str) -> str:
    """Returns a text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def to_csv(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """Returns rows as CSV; a text that would run as a formula gets an apostrophe."""
    target = io.StringIO()
    writer = csv.writer(target)
    writer.writerow(list(map(_safe, headers)))
    writer.writerows([list(map(_safe, row)) for row in rows])
    return target.getvalue()


def csv_link(filename: str, content: str, title: str = "Save as CSV") -> str:
    """Returns a link, as HTML, that saves this CSV: it carries the file in itself."""
    data = base64.b64encode(content.encode()).decode()
    return (
        f'<a class="button-link" download="{escape(filename)}" '
        f'href="data:text/csv;base64,{data}">{escape(title)}</a>'
    )


def _safe(cell: Cell) -> Cell:
    return safe_text(cell) if isinstance(cell, str) else cell
