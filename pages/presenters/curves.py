"""Points of curves as plotly figures, tables and CSV. Pure: needs no Gradio and no store."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pages.presenters.charts import Chart
from pages.presenters.palette import COLOURS, DASHES, FILLS, RunLook, Theme
from pages.presenters.spreadsheet import safe_text
from pages.presenters.wording import amount, number
from seqmatch.metrics import METRICS

Series = Mapping[int, float | None]
"""Value by step; None where the number was not finite."""
MAX_POINTS = 1000
MAX_MARKERS = 60
"""A chart's width holds this many markers that can be told apart."""


@dataclass(frozen=True)
class RunCurves:
    """What of one run is drawn."""

    run_id: str
    name: str
    look: RunLook
    series: Mapping[str, Series]


def template(theme: Theme) -> go.layout.Template:
    """Returns the one plotly template of a theme."""
    ink, grid = ("#1f2937", "#e5e7eb") if theme == "light" else ("#e5e7eb", "#3a4150")
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": grid,
        "automargin": True,
        "title": {"font": {"size": 12}, "standoff": 8},
    }
    return go.layout.Template(
        layout={
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
            "hovermode": "x unified",
            "hoverlabel": {"bgcolor": "#ffffff" if theme == "light" else "#1f2430"},
            "legend": {
                "orientation": "h",
                "yanchor": "bottom",
                "y": 1.02,
                "x": 0,
                "xanchor": "left",
            },
            "xaxis": axis,
            "yaxis": axis,
        }
    )


_TEMPLATES: dict[Theme, go.layout.Template] = {"light": template("light"), "dark": template("dark")}


def thin(series: Series, limit: int = MAX_POINTS) -> list[tuple[int, float | None]]:
    """Thins a curve to about `limit` points without moving any.

    Steps are cut into buckets of a power of two, so that points do not jump when new ones arrive;
    of each bucket the first, the last and the extreme points stay. A gap (None) stays too.
    """
    steps = sorted(series)
    if len(steps) <= limit:
        return [(step, series[step]) for step in steps]
    width = 1
    while (steps[-1] - steps[0]) / width > limit / 4:
        width *= 2
    kept: set[int] = set()
    bucket: list[int] = []
    for step in steps:
        if bucket and step // width != bucket[0] // width:
            kept |= _extremes(bucket, series)
            bucket = []
        bucket.append(step)
    kept |= _extremes(bucket, series)
    return [(step, series[step]) for step in sorted(kept)]


def _extremes(bucket: Sequence[int], series: Series) -> set[int]:
    finite = [step for step in bucket if series[step] is not None]
    kept = {bucket[0], bucket[-1]} | {step for step in bucket if series[step] is None}
    if finite:
        kept |= {min(finite, key=lambda step: series[step] or 0.0)}
        kept |= {max(finite, key=lambda step: series[step] or 0.0)}
    return kept


def has_points(chart: Chart, runs: Sequence[RunCurves]) -> bool:
    """Returns True where any run has a point of this chart, and it can show so many runs."""
    if chart.is_whole and len(runs) > 1:
        return False
    return any(run.series.get(name) for run in runs for name in chart.metrics)


def is_line(chart: Chart, runs: Sequence[RunCurves]) -> bool:
    """Returns True where some curve has two points: with one, the axes of a chart mean nothing."""
    return any(len(run.series.get(name, {})) > 1 for run in runs for name in chart.metrics)


def meanings(chart: Chart) -> list[tuple[str, str]]:
    """Returns (title, meaning) of each metric of a chart, as they are registered."""
    return [(METRICS[name].title, METRICS[name].meaning) for name in chart.metrics]


def figure(chart: Chart, runs: Sequence[RunCurves], theme: Theme) -> go.Figure:
    """Draws a chart: colour and marker tell the run, the dash tells the metric.

    Of a whole the areas of its parts are stacked, and there the colour and a pattern tell the part.
    """
    drawn = go.Figure()
    spacing = _widest(chart, runs) / MAX_MARKERS
    for run in runs:
        for position, name in enumerate(chart.metrics):
            if chart.is_whole and run.series.get(name):
                whole = _with_zeros(run.series[name], chart, run)
                drawn.add_trace(_area(whole, name, position, theme))
            elif run.series.get(name):
                title = _trace_title(chart, run, name, runs)
                drawn.add_trace(_trace(run, name, position, title, theme, spacing))
    unit = METRICS[chart.metrics[0]].unit
    drawn.update_layout(
        template=_TEMPLATES[theme],
        height=250 + 20 * (len(drawn.data) if len(runs) > 1 else len(drawn.data) // 2),
        showlegend=len(drawn.data) > 1,
        xaxis={"title": {"text": "step"}},
        yaxis={"title": {"text": unit}, "tickformat": ".0%" if _is_share(unit) else ""},
    )
    if chart.is_whole:
        drawn.update_yaxes(range=[0, 1])
    return drawn


def _is_share(unit: str) -> bool:
    return unit.startswith("share")


def _widest(chart: Chart, runs: Sequence[RunCurves]) -> int:
    """Returns the steps between the first and the last point of a chart."""
    steps = [step for run in runs for name in chart.metrics for step in run.series.get(name, ())]
    return max(steps, default=0) - min(steps, default=0)


def _trace_title(chart: Chart, run: RunCurves, name: str, runs: Sequence[RunCurves]) -> str:
    if len(runs) == 1:
        return METRICS[name].title
    # plotly reads names as a small HTML; a run's name is text.
    who = plain(run.name)
    return who if len(chart.metrics) == 1 else f"{who} · {METRICS[name].title}"


def _trace(
    run: RunCurves, name: str, position: int, title: str, theme: Theme, spacing: float
) -> go.Scatter:
    """Draws one curve, with markers where its points stand at least `spacing` steps apart."""
    points = thin(run.series[name])
    has_room = len(points) < 2 or points[-1][0] - points[0][0] >= spacing * (len(points) - 1)
    return go.Scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        name=title,
        mode="lines+markers" if has_room else "lines",
        line={"color": run.look.colour(theme), "width": 2, "dash": DASHES[position % len(DASHES)]},
        marker={"symbol": run.look.marker, "size": 6},
        hovertemplate="%{y:.1%}" if _is_share(METRICS[name].unit) else "%{y:,.4~g}",
        connectgaps=False,
    )


def _with_zeros(series: Series, chart: Chart, run: RunCurves) -> Series:
    """Returns a part of a whole at all steps of the whole: where it is not told it is nothing."""
    steps = {step for name in chart.metrics for step in run.series.get(name, {})}
    return {step: series.get(step, 0.0) for step in sorted(steps)}


def _area(series: Series, name: str, position: int, theme: Theme) -> go.Scatter:
    """Draws one part of a whole, on top of the parts before it."""
    points, colours = thin(series), COLOURS[theme]
    return go.Scatter(
        x=[step for step, _ in points],
        y=[value for _, value in points],
        name=METRICS[name].title,
        mode="lines",
        line={"color": colours[position % len(colours)], "width": 1},
        fillpattern={"shape": FILLS[position // len(colours) % len(FILLS)]},
        stackgroup="whole",
        stackgaps="interpolate",
        hovertemplate="%{y:.1%}",
    )


def plain(text: str, limit: int = 60) -> str:
    """Returns a text that plotly shows as it is: signs of HTML and templates escaped."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    escaped = cut.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("%{", "%\u200b{")


def latest(series: Series) -> tuple[int, float | None] | None:
    """Returns the last point of a curve."""
    if not series:
        return None
    step = max(series)
    return step, series[step]


def chart_summary(chart: Chart, runs: Sequence[RunCurves]) -> str:
    """Says in words what a chart shows at its end: the text for those who do not see it."""
    parts = []
    for run in runs:
        for name in chart.metrics:
            point = latest(run.series.get(name, {}))
            if point is None:
                continue
            who = f"{run.name}, " if len(runs) > 1 else ""
            metric = METRICS[name]
            value = amount(point[1], metric.unit)
            parts.append(f"{who}{metric.title}: {value} at step {point[0]:,}")
    return "; ".join(parts) + "." if parts else "No points yet."


def table_rows(chart: Chart, runs: Sequence[RunCurves]) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the rows of a chart's table: one row a step, one column a curve."""
    columns = [(run, name) for run in runs for name in chart.metrics if run.series.get(name)]
    head = ["Step", *(_column_title(run, name, len(runs)) for run, name in columns)]
    steps = sorted({step for run, name in columns for step, _ in thin(run.series[name], 200)})
    rows = []
    for step in steps:
        cells = [number(run.series[name].get(step)) for run, name in columns]
        rows.append([f"{step:,}", *cells])
    return head, rows


def _column_title(run: RunCurves, name: str, num_runs: int) -> str:
    metric = METRICS[name]
    title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
    return title if num_runs == 1 else f"{run.name} · {title}"


def curves_csv(runs: Sequence[RunCurves]) -> str:
    """Returns all points as CSV: one row a point, every point, none thinned."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run_id", "run", "metric", "unit", "step", "value"])
    for run in runs:
        for name in sorted(run.series):
            unit = METRICS[name].unit if name in METRICS else ""
            for step in sorted(run.series[name]):
                value = run.series[name][step]
                shown = "" if value is None else repr(value)
                writer.writerow([run.run_id, safe_text(run.name), name, unit, step, shown])
    return out.getvalue()
