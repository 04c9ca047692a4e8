"""A grid of charts: each has its meaning, a summary in words, a table, and room to zoom."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.components import Component

from pages.components.plain import table
from pages.presenters.curves import (
    CHARTS,
    Chart,
    RunCurves,
    chart_summary,
    figure,
    has_points,
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
                gr.HTML(f"<h3>{escape(chart.title)}</h3><p>{escape(chart.hint)}</p>")
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
            updates += [gr.update(visible=True), figure(chart, runs, theme)]
            updates += [f"<p>{escape(chart_summary(chart, runs))}</p>", _numbers(chart, runs)]
        else:
            updates += [gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
    return updates


def no_updates() -> list[Any]:
    """Returns updates that leave a grid as it is, zoom and all."""
    return [gr.skip()] * (4 * len(CHARTS))


def _numbers(chart: Chart, runs: Sequence[RunCurves]) -> str:
    head, rows = table_rows(chart, runs)
    shown = rows[-TABLE_ROWS:]
    more = len(rows) - len(shown)
    note = f"<p>The last {len(shown)} steps; the CSV has all points.</p>" if more else ""
    return note + table(head, shown, chart.title, range(len(head)))
