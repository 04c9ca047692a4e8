"""What the Oracle page shows of an experiment: words, charts, tables and CSV, from its pieces."""

import csv
import io
import math

import pytest

from pages.presenters.oracle_charts import MAX_BARS, mass_figure, top_of, trap_figure
from pages.presenters.oracle_mass import (
    alpha_note,
    answers_csv,
    modes_of,
    overview,
    summary,
    table_html,
    verdict_of,
)
from pages.presenters.oracle_matrix import (
    checks_html,
    has_backspace,
    local_optima,
    match_text,
    matrix_csv,
    matrix_html,
    trap_csv,
    trap_words,
)
from pages.presenters.oracle_view import Experiment, gather, interval_text, percent, progress_html
from pages.presenters.palette import RunLook, Theme
from seqmatch.exact.results import OraclePiece
from tests.unit.pages.oracle_pieces import (
    COVERING,
    FORWARD,
    HOSTILE,
    MATCHING,
    REVERSE,
    language,
    pieces,
    request,
    run,
)


def _with(*runs: object, **changes: object) -> Experiment:
    found = [OraclePiece.model_validate({"kind": "run", "run": each}) for each in runs]
    return gather(request(**changes), [OraclePiece(kind="language", language=language()), *found])


def test_pieces_are_put_together_in_the_order_of_the_request() -> None:
    found = gather(request(), pieces())
    assert (found.done, found.total, found.doing) == (4, 6, "SequenceMatch, seed 0")
    assert found.objectives == [FORWARD, REVERSE]
    assert [each.seed for each in found.of(REVERSE)] == [0, 1]
    assert found.notes == [f"Exact Reverse KL is not trained: {HOSTILE}."]
    assert "about 10 s left" in progress_html(found, 20.0)
    assert "4 of 6 runs" in progress_html(found, 20.0)
    assert gather(request(), []).total == 6


def test_covering_and_seeking_are_said_from_the_numbers_of_every_seed() -> None:
    found = gather(request(), pieces())
    (cover, covering), (leave, seeking) = overview(found)
    assert (cover, leave) == ("Cover both modes.", "Leave a mode out.")
    assert "Exact Forward KL. It puts 40 % outside the modes; the data has 10 %" in covering
    assert "keeps “ok” in 1 of 2 seeds" in seeking
    assert f"seeds, “{HOSTILE}” in 1. It puts" in seeking
    assert found.language is not None
    modes = modes_of(found.language)
    verdict = verdict_of(found.language, modes, found.of(FORWARD))
    words = summary(verdict, modes)
    assert words == "Covers both modes. Outside the modes: 40.0 ± 0.0 % (data 10 %)."


def test_a_language_without_modes_is_told_by_overlap() -> None:
    flat = language([0.25, 0.25, 0.25, 0.25, 0.0])
    modes = modes_of(flat)
    assert not modes.are_clear
    verdict = verdict_of(flat, modes, [run(FORWARD, 0, [0.5, 0.25, 0.125, 0.0, 0.125])])
    assert verdict.overlap == (0.625,)
    assert "Shares 62.5 % with the data; puts 12.5 %" in summary(verdict, modes)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (COVERING, "stay close to likelihood here: at most 0 %"),
        ((0.2, 0.4, 0.15, 0.15, 0.1), "move up to 20 % of the mass away"),
    ],
)
def test_the_words_on_alpha_follow_the_distance_to_likelihood(
    law: tuple[float, ...], words: str
) -> None:
    objectives = ["sft", MATCHING]
    runs = [run("sft", 0, COVERING), run(MATCHING, 0, law)]
    assert words in alpha_note(_with(*runs, objectives=objectives))
    assert alpha_note(_with(runs[0], objectives=objectives)) == ""


def test_the_matrix_marks_the_smallest_of_a_column_and_shows_infinity() -> None:
    found = gather(request(), pieces())
    html = matrix_html(found)
    rows = html.split("<tr>")[2:]
    assert "★" in rows[0].split("<td")[2]  # forward KL is smallest after forward KL
    assert "∞" in rows[1].split("<td")[2]
    assert "smallest: " in rows[1].split("<td")[3]
    assert "2 of" not in html  # all seeds are there
    read = list(csv.DictReader(io.StringIO(matrix_csv(found))))
    assert len(read) == 4 * 2
    assert math.isinf(float(read[4]["value"]))


def test_an_exact_divergence_with_several_optima_is_told() -> None:
    one, other = ({"forward_kl": 1.0, "reverse_kl": value} for value in (0.4, 0.9))
    runs = [
        run(REVERSE, 0, COVERING, divergences=one),
        run(REVERSE, 1, COVERING, divergences=other),
    ]
    (line,) = local_optima(_with(*runs))
    assert "Exact Reverse KL has several optima: its own divergence ends at 0.4 to 0.9" in line
    assert local_optima(_with(*runs[:1])) == []


def test_no_text_of_people_becomes_markup() -> None:
    found = gather(request(), pieces())
    assert found.language is not None
    assert HOSTILE not in table_html(found)
    drawn = mass_figure(found.language, found.of(FORWARD), RunLook(0), top_of(found), "light")
    assert "<img" not in drawn.to_json()
    assert HOSTILE in answers_csv(found)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_chart_shows_every_answer_the_intervals_and_the_seeds(theme: Theme) -> None:
    found = gather(request(), pieces())
    assert found.language is not None
    drawn = mass_figure(found.language, found.of(REVERSE), RunLook(1), top_of(found), theme)
    model, data, seeds = drawn.data
    assert list(data.y) == [0.6, 0.3, 0.04, 0.03, 0.03]
    assert model.y[0] == pytest.approx(0.455)
    assert model.marker.pattern.shape == ("", "", "/", "/", "/")
    assert model.error_y.array[0] <= 1 - model.y[0]
    assert len(seeds.x) == 2 * 5
    assert drawn.layout.yaxis.range == (0, 1.0)


def test_many_answers_share_the_last_bar() -> None:
    long = language([0.5, 0.2, *([0.3 / 28] * 28)])
    law = [1 / 30] * 30
    drawn = mass_figure(long, [run(FORWARD, 0, law)], RunLook(0), 1.0, "light")
    assert len(drawn.data[0].y) == MAX_BARS
    assert drawn.data[0].y[-1] == pytest.approx((30 - MAX_BARS + 1) / 30)
    assert drawn.layout.xaxis.ticktext[-1] == f"{30 - MAX_BARS + 1} others"


def test_what_the_data_never_gives_shares_a_bar() -> None:
    trap = language([0.6, 0.4, 0.0, 0.0])
    drawn = mass_figure(trap, [run(FORWARD, 0, [0.5, 0.3, 0.1, 0.1])], RunLook(0), 1.0, "light")
    assert list(drawn.data[0].y) == pytest.approx([0.5, 0.3, 0.2])
    assert drawn.data[0].marker.pattern.shape == ("", "", "/")


def test_every_mode_has_a_bar() -> None:
    sums = language([*([0.95 / 16] * 16), *([0.05 / 69] * 69)])
    drawn = mass_figure(sums, [run(FORWARD, 0, [1 / 85] * 85)], RunLook(0), 1.0, "light")
    assert drawn.data[0].marker.pattern.shape == (*([""] * 16), "/")


def test_no_star_where_no_row_is_better() -> None:
    same = {"forward_kl": 0.0, "reverse_kl": math.inf}
    runs = [run(key, 0, COVERING, divergences=same) for key in (FORWARD, REVERSE)]
    assert "★" not in matrix_html(_with(*runs))


@pytest.mark.parametrize(
    ("differences", "words"),
    [
        ([3e-14, 2e-13], "matches enumeration to 1e-12"),
        ([1e-13], "matches enumeration to 1e-13"),
        ([0.0], "matches enumeration exactly"),
        ([1e-14, 2e-3], "⚠ differs from enumeration by 0.002"),
        ([None], "too large to enumerate a second time"),
        ([math.nan], "⚠ differs from enumeration by nan"),
    ],
)
def test_the_line_on_enumeration_is_the_worst_of_all_seeds(
    differences: list[float | None], words: str
) -> None:
    assert match_text(differences) == words


def test_an_optimum_that_was_not_reached_is_said() -> None:
    found = _with(run(FORWARD, 0, COVERING), run(FORWARD, 1, COVERING, is_converged=False))
    assert "⚠ not reached in 1 of 2 seeds" in checks_html(found)


def test_the_trap_is_told_with_and_without_backspace() -> None:
    found = gather(request(), pieces())
    assert not has_backspace(found)
    caught = {"off_data_probability": 0.02, "off_data_probability_masked": 0.3}
    free = {"off_data_probability": 0.4, "off_data_probability_masked": 0.3}
    both = _with(run(FORWARD, 0, COVERING, **caught), run(REVERSE, 0, COVERING, **free))
    assert has_backspace(both)
    words = trap_words(both)
    assert "Lower with backspace under 1 of 2 objectives: 2.0 % instead of 30 %." in words
    assert "Not lower under Exact Reverse KL." in words
    assert list(trap_figure(both, "light").data[1].x) == [0.3, 0.3]
    assert len(trap_csv(both).splitlines()) == 3


def test_intervals_and_rounding_noise() -> None:
    assert interval_text([0.5, 0.5]) == "0.5 ± 0"
    assert interval_text([0.5]) == "0.5"
    assert interval_text([1e-17]) == "0"
    assert interval_text([229.3, 100.1, 12.9]) == "114 ± 270"
    assert [percent(one) for one in (0.0, 2e-5, 0.004, 0.41, 0.991, 0.9999, 1.0)] == [
        *("0 %", "less than 0.1 %", "0.4 %", "41 %", "99.1 %", "more than 99.9 %", "100 %")
    ]
