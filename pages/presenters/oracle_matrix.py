"""The cross-divergence matrix, the checks against enumeration and the trap, as tables and CSV."""

import math
import re
from collections.abc import Sequence
from html import escape

from pages.components.plain import markup_table, table
from pages.presenters.oracle_view import (
    TINY,
    Experiment,
    interval_text,
    listed,
    range_text,
    small,
    title_of,
)
from pages.presenters.palette import RunLook
from pages.presenters.spreadsheet import Cell, csv_link, to_csv
from seqmatch.divergences import DIVERGENCES
from seqmatch.exact.choices import ORACLE_OBJECTIVES
from seqmatch.exact.results import MatrixCell, MatrixRow, OracleRun, matrix

MATCH_LIMIT = 1e-6
"""A loss that differs more than this from enumeration is called wrong."""
_VISIBLE = 5e-4
_APART = 1e-3
_BEST = '<span aria-hidden="true">★ </span><span class="visually-hidden">smallest: </span>'


def matrix_html(found: Experiment) -> str:
    """Returns the matrix as a table: the smallest of each column is starred and bold."""
    rows = matrix(found.runs)
    if not rows or found.language is None:
        return ""
    names = found.language.measured
    best = {name: _smallest(rows, name) for name in names}
    order = {key: place for place, key in enumerate(found.objectives)}
    cells = [
        [_row_title(found, row), *(_cell(row.cells[name], best[name]) for name in names)]
        for row in sorted(rows, key=lambda row: order[row.objective])
    ]
    headers = ["Trained under", *map(_divergence_title, names)]
    css = ["cell-name", *["number"] * len(names)]
    shown = markup_table(headers, cells, "Cross-divergence matrix", css)
    return f'<div class="matrix">{shown}</div>'


def matrix_csv(found: Experiment) -> str:
    """Returns one row a run and divergence, with nothing rounded."""
    rows: list[list[Cell]] = [
        [title_of(run.objective), run.objective, run.seed, name, value]
        for run in found.runs
        for name, value in run.divergences.items()
    ]
    return to_csv(["trained_under", "key", "seed", "measured_under", "value"], rows)


def matrix_link(found: Experiment) -> str:
    """Returns the link that saves the matrix."""
    return f"<p>{csv_link('oracle-matrix.csv', matrix_csv(found))}</p>"


def columns_html(names: Sequence[str]) -> str:
    """Says what each column of the matrix asks, for those who do not know it."""
    items = "".join(
        f"<dt>{escape(DIVERGENCES[name].title)}</dt><dd>{escape(DIVERGENCES[name].sentence)}</dd>"
        for name in names
        if name in DIVERGENCES
    )
    head = "<summary>What the columns are</summary>"
    return f'<details class="meanings">{head}<dl class="objective-meanings">{items}</dl></details>'


def _divergence_title(name: str) -> str:
    return DIVERGENCES[name].title if name in DIVERGENCES else name


def _row_title(found: Experiment, row: MatrixRow) -> str:
    look = RunLook(found.request.objectives.index(row.objective))
    asked = len(found.request.seeds)
    seeds = f" <small>{row.num_seeds} of {asked} seeds</small>" if row.num_seeds < asked else ""
    return f"{look.html()} {escape(title_of(row.objective))}{seeds}"


def _smallest(rows: Sequence[MatrixRow], name: str) -> float | None:
    """Returns what is starred in a column; None where no row is better than another."""
    means = [row.cells[name].mean for row in rows]
    smallest = min(means)
    return None if all(_is_alike(mean, smallest) for mean in means) else smallest


def _is_alike(mean: float, smallest: float) -> bool:
    return mean == smallest or mean - smallest <= TINY


def _cell(cell: MatrixCell, smallest: float | None) -> str:
    if cell.num_infinite:
        return '∞<span class="visually-hidden"> (infinite)</span>'
    half = (
        "" if cell.half_width is None else f"<small>± {_half(cell.mean, cell.half_width)}</small>"
    )
    value = small(cell.mean)
    is_best = smallest is not None and _is_alike(cell.mean, smallest)
    return f"<strong>{_BEST}{value}</strong>{half}" if is_best else f"{value}{half}"


def _half(mean: float, half: float) -> str:
    """Returns half an interval; what no digit of the mean shows is 0."""
    return small(half, 2) if half >= _VISIBLE * abs(mean) else "0"


def local_optima(found: Experiment) -> list[str]:
    """Says which exact divergences ended at different values from different seeds.

    Their mean need not be the smallest of their own column: another row may have found a better
    optimum of the same divergence.
    """
    lines = []
    for key in found.objectives:
        known = ORACLE_OBJECTIVES.get(key)
        name = known.divergence if known else ""
        values = [run.divergences[name] for run in found.of(key) if name in run.divergences]
        if values and max(values) - min(values) > max(TINY, _APART * min(values)):
            spread = f"{small(min(values))} to {small(max(values))}"
            lines.append(
                f"{title_of(key)} has several optima: its own divergence ends at {spread}, "
                "depending on the seed."
            )
    return lines


def match_text(run_differences: Sequence[float | None]) -> str:
    """Returns how exactly loss and gradient match enumeration: "matches enumeration to 1e-13"."""
    known = [one for one in run_differences if one is not None]
    if not known:
        return "too large to enumerate a second time"
    worst = max(known)
    if worst == 0:
        return "matches enumeration exactly"
    if not worst <= MATCH_LIMIT:
        return f"⚠ differs from enumeration by {worst:.2g}"
    return f"matches enumeration to 1e-{math.floor(-math.log10(worst))}"


def checks_html(found: Experiment) -> str:
    """Returns one line an objective: does its loss match enumeration, was its optimum reached."""
    rows = [
        [
            f"<span>{_unbroken(escape(cell))}</span>"
            for cell in _check_row(title_of(key), found.of(key))
        ]
        for key in found.objectives
    ]
    headers = ["Objective", "Loss and gradient", "Optimum", "Iterations", "Gradient"]
    css = ["cell-name", "", "", "number", "number"]
    return markup_table(headers, rows, "Checks of each objective", css, as_cards=True)


def _unbroken(text: str) -> str:
    """Keeps "1e-13" on one line."""
    return re.sub(r"(1e-\d+)", r'<span class="nowrap">\1</span>', text)


def checks_csv(found: Experiment) -> str:
    """Returns the checks of every run."""
    headers = ["objective", "key", "seed", "loss", "largest_difference_to_enumeration"]
    headers += ["iterations", "rounds", "largest_gradient_entry", "is_converged"]
    rows: list[list[Cell]] = [
        [
            title_of(run.objective),
            run.objective,
            run.seed,
            run.loss,
            "" if run.loss_match is None else run.loss_match,
            run.num_iterations,
            run.num_rounds,
            run.grad_norm,
            int(run.is_converged),
        ]
        for run in found.runs
    ]
    return to_csv(headers, rows)


def _check_row(title: str, runs: Sequence[OracleRun]) -> list[str]:
    num_open = sum(not run.is_converged for run in runs)
    reached = "reached" if not num_open else f"⚠ not reached in {num_open} of {len(runs)} seeds"
    steps = [run.num_iterations for run in runs]
    spread = f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"
    worst = max(run.grad_norm for run in runs)
    known = [run.loss_match for run in runs if run.loss_match is not None]
    matches = match_text(known) if known else "too large to enumerate"
    return [title, matches, reached, spread, f"{worst:.1e}"]


def has_backspace(found: Experiment) -> bool:
    """Returns True where decoding with and without backspace can be told apart."""
    return bool(found.runs) and all(
        run.off_data_probability_masked is not None for run in found.runs
    )


def trap_words(found: Experiment) -> str:
    """Says under how many objectives backspace lowers the mass off the data, and to what."""
    means = {key: _mean_off_data(found.of(key)) for key in found.objectives}
    better = {key: pair for key, pair in means.items() if pair[0] < pair[1]}
    worse = [title_of(key) for key in means if key not in better]
    lines = []
    if better:
        which = "every objective" if not worse else f"{len(better)} of {len(means)} objectives"
        allowed, masked = (
            range_text([pair[place] for pair in better.values()]) for place in (0, 1)
        )
        lines.append(f"Lower with backspace under {which}: {allowed} instead of {masked}.")
    if worse:
        lines.append(f"Not lower under {listed(worse)}.")
    return " ".join(lines)


def _mean_off_data(runs: Sequence[OracleRun]) -> tuple[float, float]:
    allowed = sum(run.off_data_probability for run in runs) / len(runs)
    return allowed, sum(run.off_data_probability_masked or 0.0 for run in runs) / len(runs)


def trap_html(found: Experiment) -> str:
    """Returns the mass off the data of each objective, with backspace and with it masked."""
    has_simulated = any(run.off_data_probability_simulated is not None for run in found.runs)
    headers = ["Trained under", "With backspace", "Backspace masked"]
    if has_simulated:
        headers.append(f"With backspace, counted over {found.runs[0].num_simulated:,} decodes")
    rows = []
    for key in found.objectives:
        runs = found.of(key)
        columns = [
            [run.off_data_probability for run in runs],
            [run.off_data_probability_masked or 0.0 for run in runs],
        ]
        if has_simulated:
            columns.append([run.off_data_probability_simulated or 0.0 for run in runs])
        rows.append([title_of(key), *map(interval_text, columns)])
    numbers = range(1, len(headers))
    return table(headers, rows, "Probability of ending off the data", numbers=numbers)


def trap_csv(found: Experiment) -> str:
    """Returns the mass off the data of every run."""
    headers = ["objective", "key", "seed", "with_backspace", "backspace_masked"]
    headers += ["simulated", "num_simulated"]
    rows: list[list[Cell]] = [
        [
            title_of(run.objective),
            run.objective,
            run.seed,
            run.off_data_probability,
            run.off_data_probability_masked or 0.0,
            ""
            if run.off_data_probability_simulated is None
            else run.off_data_probability_simulated,
            run.num_simulated,
        ]
        for run in found.runs
    ]
    return to_csv(headers, rows)
