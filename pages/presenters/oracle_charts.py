"""The pictures of the Oracle page: a policy's answers against the data's, and the trap."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from pages.presenters.curves import plain, template
from pages.presenters.oracle_mass import Modes, modes_of
from pages.presenters.oracle_view import Experiment, title_of
from pages.presenters.palette import RunLook, Theme
from seqmatch.exact.results import OracleLanguage, OracleRun
from seqmatch.intervals import mean_with_interval

MAX_BARS = 14
"""More answers than that share the last bar."""
MAX_MODES = 24
"""Fewer modes than that have a bar each."""
MAX_LABEL = 14
_TOPS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""The ends that the axis of probability may have: all charts of an experiment share one."""
_TEMPLATES: dict[Theme, go.layout.Template] = {"light": template("light"), "dark": template("dark")}
_INK: dict[Theme, str] = {"light": "#1f2937", "dark": "#e5e7eb"}


@dataclass(frozen=True)
class Bars:
    """The bars of one chart, by falling probability under the data."""

    labels: list[str]
    data: list[float]
    laws: list[list[float]]
    """By run."""
    is_mode: list[bool]


def bars_of(language: OracleLanguage, modes: Modes, runs: Sequence[OracleRun]) -> Bars:
    """Returns the likeliest answers one by one, and together all others.

    Others are what the data never gives, and what there is no room for.
    """
    num = len(language.answers)
    given = sum(answer.probability > 0 for answer in language.answers)
    room = max(MAX_BARS, len(modes.indices) + 1) if len(modes.indices) < MAX_MODES else MAX_BARS
    cut = num if num <= min(given + 1, room) else min(given, room - 1)
    labels = [answer.text for answer in language.answers[:cut]]
    laws = [list(run.law[:cut]) for run in runs]
    data = [answer.probability for answer in language.answers[:cut]]
    is_mode = [index in modes.indices for index in range(cut)]
    if cut < num:
        hidden = num - cut - (1 if language.num_pooled else 0) + language.num_pooled
        labels.append(f"{hidden:,} others")
        data.append(sum(answer.probability for answer in language.answers[cut:]))
        laws = [[*law, sum(run.law[cut:])] for law, run in zip(laws, runs, strict=True)]
        is_mode.append(any(index >= cut for index in modes.indices))
    return Bars(labels, data, laws, is_mode)


def top_of(found: Experiment) -> float:
    """Returns where the axis of probability ends, for all charts of an experiment."""
    if found.language is None:
        return _TOPS[-1]
    bars = bars_of(found.language, modes_of(found.language), found.runs)
    highest = max(max(column) for column in (bars.data, *bars.laws))
    return next((top for top in _TOPS if highest * 1.05 <= top), _TOPS[-1] * 1.05)


def mass_figure(
    language: OracleLanguage, runs: Sequence[OracleRun], look: RunLook, top: float, theme: Theme
) -> go.Figure:
    """Draws the policies of one objective: bars are means over seeds, dots are seeds.

    The data is an outline; what lies outside its modes is hatched.
    """
    bars = bars_of(language, modes_of(language), runs)
    columns = list(zip(*bars.laws, strict=True))
    means, halves = zip(*(mean_with_interval(column) for column in columns), strict=True)
    places = list(range(len(bars.labels)))
    drawn = go.Figure()
    drawn.add_trace(_model_bars(bars, means, halves, look.colour(theme), _INK[theme]))
    drawn.add_trace(
        go.Bar(
            x=places,
            y=bars.data,
            name="data",
            width=0.9,
            marker={"color": "rgba(0,0,0,0)", "line": {"color": _INK[theme], "width": 1.5}},
            hovertemplate="%{y:.3g}",
        )
    )
    if len(runs) > 1:
        drawn.add_trace(_seed_dots(places, bars.laws, _INK[theme]))
    drawn.update_layout(
        template=_TEMPLATES[theme],
        height=250,
        barmode="overlay",
        bargap=0.1,
        showlegend=False,
        xaxis={
            "tickvals": places,
            "ticktext": [plain(label, MAX_LABEL) for label in bars.labels],
            "tickangle": -40 if max(map(len, bars.labels)) > 3 else 0,
            "showgrid": False,
        },
        yaxis={"range": [0, top], "title": {"text": "probability"}},
    )
    return drawn


def _model_bars(
    bars: Bars, means: Sequence[float], halves: Sequence[float | None], colour: str, ink: str
) -> go.Bar:
    return go.Bar(
        x=list(range(len(means))),
        y=list(means),
        name="model",
        width=0.64,
        marker={
            "color": colour,
            "pattern": {
                "shape": ["" if one else "/" for one in bars.is_mode],
                "fillmode": "replace",
                "fgcolor": colour,
                "size": 6,
            },
            "line": {"color": colour, "width": 1},
        },
        error_y=_error(means, halves, ink),
        hovertemplate="%{y:.3g}",
    )


def _error(means: Sequence[float], halves: Sequence[float | None], ink: str) -> dict[str, object]:
    """The interval of each bar; a probability goes no lower than 0 and no higher than 1."""
    spread = [half or 0.0 for half in halves]
    return {
        "type": "data",
        "array": [min(half, 1 - mean) for half, mean in zip(spread, means, strict=True)],
        "arrayminus": [min(half, mean) for half, mean in zip(spread, means, strict=True)],
        "visible": any(spread),
        "color": ink,
        "thickness": 1.2,
        "width": 3,
    }


def _seed_dots(places: Sequence[int], laws: Sequence[Sequence[float]], ink: str) -> go.Scatter:
    return go.Scatter(
        x=[place for _ in laws for place in places],
        y=[value for law in laws for value in law],
        name="one seed",
        mode="markers",
        marker={"color": ink, "size": 4, "opacity": 0.6},
        hoverinfo="skip",
    )


def trap_figure(found: Experiment, theme: Theme) -> go.Figure:
    """Draws, for each objective, the mass off the data with backspace and with it masked."""
    keys = found.objectives
    drawn = go.Figure()
    for name, colour, pattern, values in (
        ("with backspace", RunLook(0).colour(theme), "", _off_data(found, is_masked=False)),
        ("backspace masked", RunLook(1).colour(theme), "/", _off_data(found, is_masked=True)),
    ):
        means, halves = zip(*(mean_with_interval(column) for column in values), strict=True)
        drawn.add_trace(
            go.Bar(
                y=[plain(title_of(key)).replace(", ", ",<br>") for key in keys],
                x=list(means),
                name=name,
                orientation="h",
                marker={
                    "color": colour,
                    "pattern": {"shape": pattern, "fillmode": "replace", "fgcolor": colour},
                    "line": {"color": colour, "width": 1},
                },
                error_x=_error(means, halves, _INK[theme]),
                hovertemplate="%{x:.3g}",
            )
        )
    drawn.update_layout(
        template=_TEMPLATES[theme],
        height=110 + 48 * len(keys),
        barmode="group",
        hovermode="y unified",
        xaxis={"title": {"text": "probability"}, "rangemode": "tozero"},
        yaxis={"autorange": "reversed"},
    )
    return drawn


def _off_data(found: Experiment, *, is_masked: bool) -> list[list[float]]:
    return [
        [
            (run.off_data_probability_masked or 0.0) if is_masked else run.off_data_probability
            for run in found.of(key)
        ]
        for key in found.objectives
    ]
