"""What an exact experiment shows: words, a chart an objective, the matrix, checks and the trap."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from pages.components.plain import plain
from pages.presenters import oracle_mass, oracle_matrix
from pages.presenters.oracle_charts import mass_figure, top_of, trap_figure
from pages.presenters.oracle_form import MAX_OBJECTIVES
from pages.presenters.oracle_view import Experiment, title_of
from pages.presenters.palette import RunLook, Theme
from pages.presenters.spreadsheet import csv_link

Drawn = Mapping[str, Any]
"""What a browser has been sent of the charts: a key for each."""
_LEGEND = """<ul class="mass-legend">
<li><span class="mass-key mass-model"></span> policy, mean over seeds with its 95 % interval</li>
<li><span class="mass-key mass-outside"></span> the same, outside the data's modes</li>
<li><span class="mass-key mass-data"></span> data</li>
<li><span class="mass-key mass-seed"></span> one seed</li>
</ul>"""
_MODES = (
    "Modes are the answers that stand out: above an equal share, and at least a quarter of the "
    "likeliest. A policy covers one with at least a quarter of what the data gives it. Where none "
    "stand out, hatched is what the data never gives."
)


@dataclass(frozen=True)
class Results:
    """The components, in the order in which `result_updates` gives their updates."""

    outputs: list[Any]


def build_results() -> Results:
    """Builds the results; nothing is shown before there is some."""
    outputs: list[Any] = []
    with gr.Column(visible=False, elem_id="oracle-results") as body:
        gr.Markdown("## Where each objective put its mass")
        words = gr.HTML(elem_id="oracle-words")
        gr.HTML(f'{_LEGEND}<p class="hint">{_MODES}</p>')
        with gr.Row(elem_classes=["chart-grid"], elem_id="oracle-charts"):
            panels = [_build_panel(index) for index in range(MAX_OBJECTIVES)]
        with gr.Accordion("All probabilities as a table", open=False, elem_id="oracle-law-fold"):
            law = gr.HTML(elem_id="oracle-law")
        gr.Markdown("## Cross-divergence matrix")
        matrix = gr.HTML(elem_id="oracle-matrix")
        with gr.Column(visible=False, elem_id="oracle-trap") as trap:
            gr.Markdown("## What backspace changes")
            trap_words = gr.HTML(elem_id="oracle-trap-words")
            trap_plot = gr.Plot(show_label=False, container=False, elem_id="oracle-trap-plot")
            with gr.Accordion("Table", open=False, elem_id="oracle-trap-fold"):
                trap_table = gr.HTML(elem_id="oracle-trap-table")
        gr.Markdown("## Checked against enumeration")
        checks = gr.HTML(elem_id="oracle-checks")
    outputs += [body, words, *(part for panel in panels for part in panel), law, matrix]
    outputs += [trap, trap_words, trap_plot, trap_table, checks]
    return Results(outputs)


def _build_panel(index: int) -> tuple[gr.Column, gr.HTML, gr.Plot, gr.HTML]:
    with gr.Column(visible=False, elem_classes=["chart"], elem_id=f"oracle-chart-{index}") as panel:
        head = gr.HTML(elem_id=f"oracle-head-{index}")
        plot = gr.Plot(show_label=False, container=False, elem_id=f"oracle-plot-{index}")
        summary = gr.HTML(elem_id=f"oracle-summary-{index}")
    return panel, head, plot, summary


def result_updates(found: Experiment, drawn: Drawn, theme: Theme) -> tuple[list[Any], Drawn]:
    """Returns the updates that show an experiment, and what is drawn then.

    A chart is sent again only where it has new runs, another scale or another theme.
    """
    if found.language is None or not found.runs:
        return [gr.update(visible=False), *([gr.skip()] * (num_outputs() - 1))], {}
    panels, keys = _panel_updates(found, drawn, theme)
    trap_key = ["trap", len(found.runs), theme]
    updates = [
        gr.update(visible=True),
        _words(found),
        *panels,
        oracle_mass.table_html(found),
        _matrix(found),
        *_trap_updates(found, theme, is_new=drawn.get("trap") != trap_key),
        _checks(found),
    ]
    return updates, {**keys, "trap": trap_key}


def no_result_updates() -> list[Any]:
    """Returns updates that leave everything as it is."""
    return [gr.skip()] * num_outputs()


def num_outputs() -> int:
    """Returns how many components the results have."""
    return 4 * MAX_OBJECTIVES + 9


def _panel_updates(
    found: Experiment, drawn: Drawn, theme: Theme
) -> tuple[list[Any], dict[str, Any]]:
    language = found.language
    assert language is not None
    updates: list[Any] = []
    keys: dict[str, Any] = {}
    top, modes = top_of(found), oracle_mass.modes_of(language)
    for index in range(MAX_OBJECTIVES):
        asked = found.request.objectives
        objective = asked[index] if index < len(asked) else ""
        runs = found.of(objective)
        keys[str(index)] = key = [objective, len(runs), top, theme]
        if not runs:
            updates += [gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
        elif drawn.get(str(index)) == key:
            updates += [gr.skip()] * 4
        else:
            figure = mass_figure(language, runs, RunLook(index), top, theme)
            verdict = oracle_mass.verdict_of(language, modes, runs)
            words = f"<p>{escape(oracle_mass.summary(verdict, modes))}</p>"
            updates += [gr.update(visible=True), _head(objective, index), figure, words]
    return updates, keys


def _head(objective: str, index: int) -> str:
    return f"<h3>{RunLook(index).html()} {escape(title_of(objective))}</h3>"


def _words(found: Experiment) -> str:
    lines = oracle_mass.overview(found)
    note = oracle_mass.alpha_note(found)
    if note:
        lines.append((f"α = {found.request.alpha:g}.", note))
    parts = [f"<p><strong>{escape(head)}</strong> {escape(text)}</p>" for head, text in lines]
    parts += [plain(text) for text in found.notes]
    return f'<div class="verdicts">{"".join(parts)}</div>'


def _matrix(found: Experiment) -> str:
    language = found.language
    assert language is not None
    between = (
        "the laws of whole answers"
        if language.level == "answers"
        else "the occupancy measures (how often each state and action is visited)"
    )
    lead = (
        f"Exact divergence between data and policy, of {between}. Row: what was trained; column: "
        "what was measured; mean over seeds ± half the 95 % interval. ★ is the smallest of its "
        "column; ∞ stands where the policy or the data misses something that the other has."
    )
    return (
        f'<p class="hint">{lead}</p>{oracle_matrix.matrix_html(found)}'
        f"{plain(chr(10).join(oracle_matrix.local_optima(found)))}"
        f'<div class="table-foot">{oracle_matrix.matrix_link(found)}'
        f"{oracle_matrix.columns_html(language.measured)}</div>"
    )


def _trap_updates(found: Experiment, theme: Theme, *, is_new: bool) -> list[Any]:
    if not oracle_matrix.has_backspace(found):
        return [gr.update(visible=False), gr.skip(), gr.skip(), gr.skip()]
    link = csv_link("oracle-backspace.csv", oracle_matrix.trap_csv(found))
    lead = (
        "Probability of ending in an answer that the data never gives (in the trap language: in "
        "the trap), by the same policy with the backspace action and with it masked."
    )
    words = plain(oracle_matrix.trap_words(found))
    return [
        gr.update(visible=True),
        f'<p class="hint">{lead}</p>{words}',
        trap_figure(found, theme) if is_new else gr.skip(),
        f"<p>{link}</p>{oracle_matrix.trap_html(found)}",
    ]


def _checks(found: Experiment) -> str:
    lead = (
        "The loss that trained each policy, value and gradient, against an enumeration of all "
        "trajectories that shares only the divergence's own functions with it, computed in this "
        "experiment. Gradient: the largest entry that is left at the optimum."
    )
    link = csv_link("oracle-checks.csv", oracle_matrix.checks_csv(found))
    return f'<p class="hint">{lead}</p>{oracle_matrix.checks_html(found)}<p>{link}</p>'
