"""Curves as figures, tables and CSV."""

import csv
import io
import random

import pytest

from pages.presenters.charts import CHARTS, Chart
from pages.presenters.curves import (
    RunCurves,
    chart_summary,
    curves_csv,
    figure,
    has_points,
    is_line,
    plain,
    table_rows,
    thin,
)
from pages.presenters.palette import COLOURS, RunLook
from seqmatch.metrics import METRICS


def _run(name: str = "run", index: int = 0, **series: dict[int, float | None]) -> RunCurves:
    named = {key.replace("__", "/"): points for key, points in series.items()}
    return RunCurves(f"id{index}", name, RunLook(index), named)


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.key)
def test_every_chart_shows_registered_metrics_of_one_unit(chart: Chart) -> None:
    assert len({METRICS[name].unit for name in chart.metrics}) == 1
    assert chart.title
    assert chart.hint.endswith(".")


def test_thinning_keeps_first_last_extremes_and_gaps_and_moves_no_point() -> None:
    noise = random.Random(1)
    series: dict[int, float | None] = {step: noise.gauss(0, 1) for step in range(1, 50_001)}
    series[20_000], series[30_000], series[40_000] = 99.0, -99.0, None
    kept = thin(series, 1000)
    assert len(kept) <= 2000
    assert all(series[step] == value for step, value in kept)
    assert {1, 50_000, 20_000, 30_000, 40_000} <= {step for step, _ in kept}


def test_thinned_points_stay_when_new_ones_arrive() -> None:
    noise = random.Random(2)
    series: dict[int, float | None] = {step: noise.gauss(0, 1) for step in range(10_000)}
    before = thin({step: series[step] for step in range(9_000)}, 1000)
    after = set(thin(series, 1000))
    settled = [point for point in before if point[0] < 8_900]
    assert set(settled) <= after


def test_a_run_has_its_colour_and_a_metric_its_dash_in_both_themes() -> None:
    chart = next(one for one in CHARTS if one.key == "objective")
    run = _run(index=1, train__loss={1: 2.0, 2: 1.0}, train__bc_loss={1: 1.0, 2: None})
    for theme in ("light", "dark"):
        drawn = figure(chart, [run], theme)
        assert {trace.line.color for trace in drawn.data} == {COLOURS[theme][1]}
        assert [trace.line.dash for trace in drawn.data] == ["solid", "dash"]
        assert drawn.data[1].y[1] is None


def test_a_part_of_a_whole_is_nothing_before_it_begins_and_is_drawn_for_one_run_alone() -> None:
    chart = next(one for one in CHARTS if one.is_whole)
    data: dict[int, float | None] = {1: 1.0, 2: 1.0, 3: 0.6}
    later: dict[int, float | None] = {3: 0.4}
    run = _run(system__share_data=data, system__share_discriminator=later)
    drawn = figure(chart, [run], "light")
    assert [trace.name for trace in drawn.data] == ["Data", "Discriminator"]
    assert list(drawn.data[1].y) == [0.0, 0.0, 0.4]
    assert [trace.stackgroup for trace in drawn.data] == ["whole", "whole"]
    assert has_points(chart, [run])
    assert not has_points(chart, [run, run])


def test_a_single_point_is_no_line() -> None:
    chart = CHARTS[0]
    assert not is_line(chart, [_run(eval__nll={0: 5.6})])
    assert is_line(chart, [_run(eval__nll={0: 5.6}), _run(index=1, eval__nll={0: 5.0, 9: 1.0})])


def test_markers_stand_where_there_is_room_for_them() -> None:
    chart = next(one for one in CHARTS if one.key == "td")
    dense: dict[int, float | None] = dict.fromkeys(range(0, 1000, 10), 1.0)
    late = {step: value for step, value in dense.items() if step > 900}
    run = _run(train__td_data=dense, train__td_rollout=late, eval__td={0: 2.0, 500: 1.0})
    modes = [trace.mode for trace in figure(chart, [run], "light").data]
    assert modes == ["lines", "lines", "lines+markers"]


def test_names_of_runs_are_text_in_figures() -> None:
    assert plain("<b>%{y}</b> & more") == "&lt;b&gt;%\u200b{y}&lt;/b&gt; &amp; more"


def test_summary_says_the_last_point_in_words() -> None:
    chart = CHARTS[0]
    assert chart_summary(chart, [_run()]) == "No points yet."
    run = _run(eval__nll={100: 1.5, 1200: 0.25})
    assert chart_summary(chart, [run]) == "Held-out NLL: 0.25 nats per token at step 1,200."


def test_table_has_a_column_for_each_curve_and_a_row_for_each_step() -> None:
    chart = CHARTS[0]
    runs = [_run("a", 0, eval__nll={1: 1.0}), _run("b", 1, eval__nll={1: 2.0, 3: None})]
    head, rows = table_rows(chart, runs)
    assert len(head) == 3
    assert rows == [["1", "1", "2"], ["3", "–", "–"]]


def test_csv_has_every_point_exactly_and_no_formula() -> None:
    value = 0.1 + 0.2
    text = curves_csv([_run('=HYPERLINK("x")', 0, eval__nll={5: value, 6: None})])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0]["run"].startswith("'=")
    assert float(rows[0]["value"]) == value
    assert rows[1]["value"] == ""
    assert rows[0]["unit"] == "nats per token"
