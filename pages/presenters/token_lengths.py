"""The lengths of tokenised rows as a histogram that is its own table."""

from collections.abc import Sequence
from html import escape

from pages.components.plain import plain
from seqmatch.jobs.task_types import LengthSummaryResult


def histogram_html(bins: Sequence[tuple[int, int, int]], limit: int | None = None) -> str:
    """Returns bars with their numbers, from (first, last, count) of each bin, as HTML.

    Bins beyond the `limit` on a row's length are marked: those rows are dropped or cut.
    """
    most = max((count for _, _, count in bins), default=0)
    if not most:
        return '<p class="empty">No rows.</p>'
    rows = []
    for first, last, count in bins:
        over = limit is not None and first > limit
        label = f"{first:,}" if first == last else f"{first:,}–{last:,}"
        width = max(100 * count / most, 0.6) if count else 0
        rows.append(
            f'<tr{" class=over" if over else ""}><th scope="row">{escape(label)}</th>'
            f'<td class="bar"><span style="width:{width:.1f}%"></span></td>'
            f'<td class="number">{count:,}</td></tr>'
        )
    return (
        '<table class="histogram"><caption class="visually-hidden">Rows by length in tokens'
        "</caption><thead><tr><th>Tokens</th><th></th><th>Rows</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def lengths_html(result: LengthSummaryResult, limit: int) -> str:
    """Returns what the lengths mean for training, then the histogram."""
    return f"{_verdict(result, limit)}{histogram_html(result.bins, limit)}"


def _verdict(result: LengthSummaryResult, limit: int) -> str:
    if result.refusal:
        return plain(f"⚠ This set cannot be trained on: {result.refusal}", "problem")
    kept = result.num_rows - result.num_too_long
    parts = [f"{kept:,} of {result.num_rows:,} rows fit into {limit:,} tokens."]
    if result.num_unsupervised:
        parts.append(f"{result.num_unsupervised:,} rows have no answer token to train.")
    parts.append(f"The stop token is trained in {result.num_stop_trained:,} rows.")
    return plain(" ".join(parts), "problem" if result.num_unsupervised else "good")
