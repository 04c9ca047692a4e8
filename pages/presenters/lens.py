"""How far a run's answers are from the demonstrations, as words, tables and a chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from pages.components.plain import plain, table
from pages.presenters.curves import template
from pages.presenters.heat_map import signed
from pages.presenters.palette import RunLook, Theme
from pages.presenters.spreadsheet import csv_link, to_csv
from seqmatch.jobs.lens_types import Between, Judge, LensPiece, Measured, ScoredAnswer
from seqmatch.jobs.lens_words import reading

_TEMPLATES: dict[Theme, go.layout.Template] = {"light": template("light"), "dark": template("dark")}
_GREY: dict[Theme, str] = {"light": "#6B6B6B", "dark": "#B5B5B5"}


@dataclass(frozen=True)
class Found:
    """The pieces of a task put together."""

    doing: str
    """What is being done, with how much of it is."""
    measured: Measured | None
    judge: Judge | None
    scored: tuple[ScoredAnswer, ...]


def gather(pieces: Sequence[LensPiece]) -> Found:
    """Puts the pieces of a task together."""
    told = [piece for piece in pieces if piece.text]
    doing = "Starting"
    if told:
        last = told[-1]
        doing = f"{last.text}: {last.done:,} of {last.total:,}" if last.total else last.text
    return Found(
        doing,
        next((piece.measured for piece in pieces if piece.measured is not None), None),
        next((piece.judge for piece in pieces if piece.judge is not None), None),
        tuple(piece.scored for piece in pieces if piece.scored is not None),
    )


def measured_html(measured: Measured) -> str:
    """Returns the sentence on AUC and leak AUC, the figures, and the table of divergences."""
    return (
        f'<p class="lens-reading"><strong>{escape(reading(measured))}</strong></p>'
        f"{_figures(measured)}{_estimates(measured)}"
    )


def _figures(measured: Measured) -> str:
    items = [
        ("AUC of the probe", _auc(measured.auc)),
        ("AUC of length and white space alone", _auc(measured.leak_auc)),
        ("Mean h of demonstrations", f"{signed(measured.score_data)} nats"),
        ("Mean h of answers", f"{signed(measured.score_rollouts)} nats"),
        ("Mean entropy of σ(h)", f"{measured.entropy:.2f} nats (0.69 is chance)"),
    ]
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in items)
    return f'<dl class="figures">{rows}</dl>'


def _auc(between: Between) -> str:
    interval = f"{between.low:.2f} to {between.high:.2f}"
    return f"{between.value:.2f} <small>(95 %: {interval})</small>"


def _estimates(measured: Measured) -> str:
    head = ("Divergence of whole answers", "Lower bound ± 95 %", "Plug-in (biased)")
    rows = [
        (row.title, f"{_number(row.bound.value)} ± {_half(row.bound)}", _number(row.plug_in))
        for row in measured.estimates
    ]
    saved = to_csv(
        ("divergence", "lower_bound", "low", "high", "plug_in"),
        [
            (row.name, row.bound.value, row.bound.low, row.bound.high, row.plug_in)
            for row in measured.estimates
        ],
    )
    note = (
        f"First column: {measured.bound_kind}; small too where the probe sees little, below 0 "
        f"where the two are near each other. Plug-in: {measured.plug_in_kind}. Ratios beyond "
        f"{math.exp(measured.score_limit):.0f} are held there, so that divergences that grow "
        "without end level off."
    )
    return (
        f"{table(head, rows, 'Estimates of divergences', (1, 2))}"
        f'<p class="hint lens-kinds">{escape(note)}</p><p>{csv_link("lens.csv", saved)}</p>'
    )


def _number(value: float) -> str:
    text = f"{value:.3f}".replace("-", "−")
    return text if float(f"{value:.3f}") else "0.000"


def _half(between: Between) -> str:
    return f"{(between.high - between.low) / 2:.3f}"


def calibration_figure(measured: Measured, theme: Theme) -> go.Figure:
    """Draws the share of demonstrations over what h claims; the diagonal is a calibrated h."""
    rows = measured.calibration
    largest = max(row.count for row in rows)
    colour = RunLook(0).colour(theme)
    drawn = go.Figure()
    drawn.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="calibrated",
            line={"color": _GREY[theme], "dash": "dash", "width": 1},
            hoverinfo="skip",
        )
    )
    drawn.add_trace(
        go.Scatter(
            x=[row.mean_probability for row in rows],
            y=[row.share_data for row in rows],
            customdata=[row.count for row in rows],
            mode="lines+markers",
            name="probe; larger: more answers",
            line={"color": colour, "width": 1.5},
            marker={"size": [6 + 14 * (row.count / largest) ** 0.5 for row in rows]},
            hovertemplate="σ(h) %{x:.2f}: %{y:.0%} demonstrations of %{customdata}<extra></extra>",
        )
    )
    drawn.update_layout(
        template=_TEMPLATES[theme],
        height=280,
        hovermode="closest",
        xaxis={"title": {"text": "mean σ(h)"}, "range": [-0.03, 1.03]},
        yaxis={"title": {"text": "share of demonstrations"}, "range": [-0.05, 1.05]},
    )
    return drawn


def calibration_html(measured: Measured) -> str:
    """Returns the chart's numbers as a table."""
    rows = [
        (f"{row.mean_probability:.2f}", f"{row.share_data:.2f}", f"{row.count:,}")
        for row in measured.calibration
    ]
    head = ("Mean σ(h)", "Share of demonstrations", "Answers of both sides")
    return table(head, rows, "Calibration of the probe", (0, 1, 2))


def calibration_words(measured: Measured) -> str:
    """Returns what the chart shows."""
    return plain(
        f"Mean gap to the diagonal: {measured.calibration_error:.2f}, biased upwards on few "
        "answers. On it, σ(h) is the share of demonstrations among answers with about that σ(h)."
    )


def measured_words(measured: Measured) -> str:
    """Returns what was measured, for the line under the button."""
    backspace = "with backspace" if measured.backspace else "without backspace"
    return (
        f"{measured.num_answers:,} answers of the policy of step {measured.step:,}, {backspace}, "
        f"up to {measured.max_new_tokens:,} tokens each, against held-out demonstrations"
    )
