"""Small pieces of HTML for values and texts; every text is escaped here."""

from collections.abc import Iterable
from html import escape


def pairs(items: Iterable[tuple[str, str]]) -> str:
    """Returns names and values as a description list."""
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in items
    )
    return f'<dl class="pairs">{rows}</dl>'


def pre(text: str, label: str) -> str:
    """Returns plain text as it is, in a box that scrolls and can be reached by keyboard."""
    return (
        f'<pre class="plain" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"{escape(text)}</pre>"
    )
