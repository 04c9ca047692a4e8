"""A grid of charts: each has its meaning, a summary in words, a table, and room to zoom."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from pages.components.plain import table
from pages.presenters.charts import CHARTS, Chart
from pages.presenters.curves import (
    RunCurves,
    chart_summary,
    figure,
    has_points,
    is_line,
    meanings,
    table_rows,
)
from pages.presenters.palette import Theme

TABLE_ROWS = 60


@dataclass(frozen=True)
class ChartGrid:
    """The components of a grid, in the order in which `grid_updates` gives their updates."""

    outputs: list[Any]


def build_grid(page: str) -> ChartGrid:
    """Builds a grid with a place for each chart; charts without points are not shown."""
    outputs: list[Component | gr.Column] = []
    with gr.Row(elem_classes=["chart-grid"], elem_id=f"{page}-charts"):
        for chart in CHARTS:
            with gr.Column(
                visible=False, elem_classes=["chart"], elem_id=f"{page}-chart-{chart.key}"
            ) as box:
                gr.HTML(_head(chart))
                plot = gr.Plot(
                    show_label=False, container=False, elem_id=f"{page}-plot-{chart.key}"
                )
                summary = gr.HTML(elem_id=f"{page}-summary-{chart.key}")
                with gr.Accordion("Table", open=False, elem_id=f"{page}-fold-{chart.key}"):
                    numbers = gr.HTML(elem_id=f"{page}-table-{chart.key}")
            outputs += [box, plot, summary, numbers]
    return ChartGrid(outputs)


def grid_updates(runs: Sequence[RunCurves], theme: Theme) -> list[Any]:
    """Returns the updates that show these runs' curves."""
    updates: list[Any] = []
    for chart in CHARTS:
        if has_points(chart, runs):
            is_drawn = is_line(chart, runs)
            drawn = figure(chart, runs, theme) if is_drawn else None
            note = "" if is_drawn else " A line needs one more point."
            updates += [gr.update(visible=True), gr.update(value=drawn, visible=is_drawn)]
            updates += [
                f"<p>{escape(chart_summary(chart, runs) + note)}</p>",
                _numbers(chart, runs),
            ]
        else:
            updates += [gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
    return updates


def no_updates() -> list[Any]:
    """Returns updates that leave a grid as it is, zoom and all."""
    return [gr.skip()] * (4 * len(CHARTS))


def _head(chart: Chart) -> str:
    """Returns the title, what is plotted as the metrics are registered, and what to look for."""
    found = meanings(chart)
    look = escape(chart.hint)
    if len(found) == 1:
        return f"<h3>{escape(chart.title)}</h3><p>{escape(found[0][1])} {look}</p>"
    items = "".join(f"<dt>{escape(title)}</dt><dd>{escape(text)}</dd>" for title, text in found)
    return (
        f"<h3>{escape(chart.title)}</h3><p>{look}</p>"
        f'<details class="meanings"><summary>What is plotted</summary><dl>{items}</dl></details>'
    )


def _numbers(chart: Chart, runs: Sequence[RunCurves]) -> str:
    head, rows = table_rows(chart, runs)
    shown = rows[-TABLE_ROWS:]
    more = len(rows) - len(shown)
    note = f"<p>The last {len(shown)} steps; the CSV has all points.</p>" if more else ""
    return note + table(head, shown, chart.title, range(len(head)))
