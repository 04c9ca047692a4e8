"""The stored sets of demonstrations as a table, and their rows as a preview."""

from collections.abc import Mapping, Sequence
from html import escape

from pages.components.plain import markup_table, plain
from pages.links import link
from pages.presenters.wording import ago_html
from seqmatch.types import Demonstration
from storage.records import DatasetRecord

_SHOWN = 600


def sets_html(
    datasets: Sequence[DatasetRecord], used_by: Mapping[str, int], chosen: str, now: float
) -> str:
    """Returns the sets with a link to each; `used_by` counts the runs of each set by its id."""
    if not datasets:
        return plain(
            "No demonstrations yet. Upload a file above, or add a bundled example.", "empty"
        )
    rows = []
    for one in datasets:
        current = ' aria-current="true"' if one.id == chosen else ""
        address = link("demonstrations", dataset=one.id)
        runs = used_by.get(one.id, 0)
        rows.append(
            [
                f'<a href="{address}"{current}>{escape(one.name)}</a>',
                f"{one.num_rows:,}",
                f"{one.num_refused:,}" if one.num_refused else "none",
                ago_html(one.created_at, now),
                f"{runs:,} run{'' if runs == 1 else 's'}" if runs else "no run yet",
            ]
        )
    headers = ("Name", "Rows", "Left out", "Added", "Used by")
    css = ("cell-name", "number", "number", "", "")
    return markup_table(headers, rows, "Stored demonstrations", css, as_cards=True)


def rows_html(rows: Sequence[Demonstration], first: int, total: int) -> str:
    """Returns rows as prompt and answer beside each other, as plain text."""
    if not rows:
        return plain("This set has no rows.", "empty")
    cells = [
        [f"{first + offset + 1:,}", _text(_prompt(row)), _text(row.completion)]
        for offset, row in enumerate(rows)
    ]
    caption = f"Rows {first + 1:,} to {first + len(rows):,} of {total:,}"
    return markup_table(
        ("Row", "Prompt", "Answer"), cells, caption, ("number narrow", "cell-text", "cell-text")
    )


def _prompt(row: Demonstration) -> str:
    if isinstance(row.prompt, str):
        return row.prompt
    return "\n".join(f"{message.role}: {message.content}" for message in row.prompt)


def _text(text: str) -> str:
    more = f"{text[:_SHOWN]} …" if len(text) > _SHOWN else text
    return f'<span dir="auto">{escape(more)}</span>'
