"""What `oracle` prints and writes: Markdown tables for people, one number a row for programs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from seqmatch.commands.written_tables import Row, print_table
from seqmatch.exact.choices import ORACLE_OBJECTIVES, get_oracle_objective
from seqmatch.exact.languages import LANGUAGES
from seqmatch.exact.results import Level, MatrixCell, OracleLanguage, OracleRun, cell_of, matrix

_SHOWN_ANSWERS = 8
_SMALL = 1e-3
_LARGE = 1e6
"""Numbers below the one and from the other on are written with a power of ten."""


@dataclass(frozen=True)
class Trained:
    """A run, and the entropy weight that it was trained with."""

    alpha: float
    run: OracleRun


def print_listing() -> None:
    """Prints what there is to choose from."""
    print("languages:")
    width = max(map(len, LANGUAGES))
    for name, language in LANGUAGES.items():
        print(f"  {name:{width}}  {language.sentence}")
    print("\nobjectives:")
    width = max(map(len, ORACLE_OBJECTIVES))
    for key, objective in ORACLE_OBJECTIVES.items():
        print(f"  {key:{width}}  {objective.title}. {objective.sentence}")


def print_results(
    language: OracleLanguage, trained: Sequence[Trained], notes: Sequence[str], every_run: bool
) -> None:
    """Prints the language, where each objective put its mass, the matrix and the checks."""
    backspace = "with backspace" if language.backspace else "without backspace"
    print(f"# {language.title}\n\n{language.sentence}\n")
    print(
        f"Policy: {language.policy}, {backspace}; noise rate {language.noise_rate:g}; "
        f"discount {language.discount:g}.\n"
    )
    for note in notes:
        print(f"Note: {note}\n")
    runs = _labelled(trained)
    if not runs:
        return
    groups = {row.objective: _of(runs, row.objective) for row in matrix(runs)}
    _print_mass(language, groups)
    _print_matrix(language.level, runs)
    if any(run.own_divergence_at_start is not None for run in runs):
        _print_from_start(groups)
    if any(run.off_data_probability_masked is not None for run in runs):
        _print_backspace(groups)
    _print_checks(groups)
    if every_run:
        _print_runs(language, runs)
    if len({run.seed for run in runs}) > 1:
        print("± is the 95 % interval over seeds (Student's t).")


def records(language: OracleLanguage, trained: Sequence[Trained]) -> Iterator[Row]:
    """Yields the header and one row for each number, unrounded."""
    yield "language", "objective", "alpha", "seed", "quantity", "name", "value"
    for answer in language.answers:
        yield language.name, "data", None, None, "law", answer.text, answer.probability
    for each in trained:
        run = each.run
        alpha = each.alpha if get_oracle_objective(run.objective).uses_alpha else None
        for quantity, name, value in _numbers(language, run):
            yield language.name, run.objective, alpha, run.seed, quantity, name, value


def _numbers(language: OracleLanguage, run: OracleRun) -> Iterator[tuple[str, str, float | None]]:
    for answer, probability in zip(language.answers, run.law, strict=True):
        yield "law", answer.text, probability
    for name, value in run.divergences.items():
        yield "divergence", name, value
    for quantity, value in run.model_dump().items():
        if quantity not in ("objective", "seed", "law", "divergences"):
            yield quantity, "", None if value is None else float(value)


def _labelled(trained: Sequence[Trained]) -> list[OracleRun]:
    """The runs, named by their objective and, where several were trained, its alpha."""
    is_one = len({each.alpha for each in trained}) == 1
    return [
        each.run
        if is_one or not get_oracle_objective(each.run.objective).uses_alpha
        else each.run.model_copy(update={"objective": f"{each.run.objective} α={each.alpha:g}"})
        for each in trained
    ]


def _of(runs: Sequence[OracleRun], objective: str) -> list[OracleRun]:
    return [run for run in runs if run.objective == objective]


def _print_mass(language: OracleLanguage, groups: dict[str, list[OracleRun]]) -> None:
    print("## Probability of each answer\n")
    num_shown = min(_SHOWN_ANSWERS, len(language.answers))
    shown = language.answers[:num_shown]
    has_rest = num_shown < len(language.answers)
    titles = [answer.text for answer in shown] + (["the rest"] if has_rest else [])
    rows = []
    data = [answer.probability for answer in language.answers]
    rows.append(["data", *(_number(value) for value in _cut(data, num_shown))])
    for objective, runs in groups.items():
        laws = [_cut(run.law, num_shown) for run in runs]
        rows.append([objective, *(_cell(cell_of(column)) for column in zip(*laws, strict=True))])
    print_table(["trained under", *titles], rows)


def _cut(law: Sequence[float], num_shown: int) -> list[float]:
    rest = [math.fsum(law[num_shown:])] if num_shown < len(law) else []
    return [*law[:num_shown], *rest]


def _print_matrix(level: Level, runs: Sequence[OracleRun]) -> None:
    between = "laws of answers" if level == "answers" else "occupancy measures"
    print(f"## Cross-divergence matrix between {between}\n")
    print("Trained under the row, exact value under the column.\n")
    rows = matrix(runs)
    names = list(rows[0].cells)
    cells = [[row.objective, *(_cell(row.cells[name]) for name in names)] for row in rows]
    print_table(["trained under", *names], cells)


def _print_from_start(groups: dict[str, list[OracleRun]]) -> None:
    print("## Adversarial objectives: their own divergence, from the start to the end\n")
    print("The start is a few steps of supervised fine-tuning; change is the mean over seeds.\n")
    rows = []
    for objective, runs in groups.items():
        known = get_oracle_objective(runs[0].objective) if runs else None
        pairs = [(run.own_divergence_at_start, run.own_divergence) for run in runs]
        values = [(start, end) for start, end in pairs if start is not None and end is not None]
        if values and known is not None and known.adversarial is not None:
            starts, ends = zip(*values, strict=True)
            changes = [end - start for start, end in values]
            num_lower = f"{sum(change < 0 for change in changes)} of {len(changes)}"
            cells = [_cell(cell_of(column)) for column in (starts, ends, changes)]
            rows.append([objective, known.adversarial.divergence, *cells, num_lower])
    print_table(["trained under", "its own", "at the start", "at the end", "change", "lower"], rows)


def _print_backspace(groups: dict[str, list[OracleRun]]) -> None:
    print("## Probability of an answer that the data never gives\n")
    columns: list[tuple[str, Callable[[OracleRun], float | None]]] = [
        ("with backspace", lambda run: run.off_data_probability),
        ("backspace masked", lambda run: run.off_data_probability_masked),
        ("with backspace, counted", lambda run: run.off_data_probability_simulated),
    ]
    rows = []
    for objective, runs in groups.items():
        values = [[value_of(run) for run in runs] for _, value_of in columns]
        known = [[value for value in column if value is not None] for column in values]
        rows.append([objective, *(_cell(cell_of(column)) if column else "-" for column in known)])
    print_table(["trained under", *(title for title, _ in columns)], rows)
    num_simulated = max(run.num_simulated for runs in groups.values() for run in runs)
    if num_simulated:
        print(f"Counted over {num_simulated} decodes of each policy.\n")


def _print_checks(groups: dict[str, list[OracleRun]]) -> None:
    print("## Checks, computed just now\n")
    rows = [
        [
            objective,
            _match(runs),
            f"{sum(run.is_converged for run in runs)} of {len(runs)}",
            f"{max(run.grad_norm for run in runs):.1e}",
            str(max(run.num_iterations for run in runs)),
            str(max(run.num_rounds for run in runs)),
        ]
        for objective, runs in groups.items()
    ]
    print_table(
        ["objective", "matches enumeration", "converged", "gradient", "iterations", "rounds"], rows
    )


def _print_runs(language: OracleLanguage, runs: Sequence[OracleRun]) -> None:
    print("## Every run\n")
    shown = language.answers[: _SHOWN_ANSWERS // 2]
    rows = [
        [
            run.objective,
            str(run.seed),
            *(_number(probability) for probability in run.law[: len(shown)]),
            _number(run.loss),
            f"{run.grad_norm:.1e}",
            "yes" if run.is_converged else "no",
        ]
        for run in runs
    ]
    titles = [answer.text for answer in shown]
    print_table(["objective", "seed", *titles, "loss", "gradient", "converged"], rows)


def _cell(cell: MatrixCell) -> str:
    if cell.half_width is None:
        return _number(cell.mean)
    largest = max(abs(cell.mean), cell.half_width)
    is_fixed = _SMALL <= largest < _LARGE
    half_width = f"{cell.half_width:.4f}" if is_fixed else f"{cell.half_width:.0e}"
    return f"{_number(cell.mean)} ± {half_width}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞"
    return f"{value:.4f}" if _SMALL <= abs(value) < _LARGE else f"{value:.1e}" if value else "0"


def _match(runs: Sequence[OracleRun]) -> str:
    known = [run.loss_match for run in runs if run.loss_match is not None]
    return f"to {_power(max(known))}" if known else "too large"


def _power(difference: float) -> str:
    """The power of ten that bounds a difference: 1e-12 for 3e-13."""
    if not math.isfinite(difference):
        return "nothing"
    return "the last bit" if difference == 0 else f"1e{math.ceil(math.log10(difference))}"
