"""What is said and shown of the lens: sentences, escaping, colours, and what is not there."""

import re
from pathlib import Path

import pytest

from pages.presenters.heat_map import heat_html, legend_html, level, scores_table, signed, summary
from pages.presenters.lens import (
    calibration_figure,
    calibration_html,
    gather,
    measured_html,
    measured_words,
)
from seqmatch.jobs.lens_types import Between, LensPiece
from seqmatch.jobs.lens_words import in_words, judged_by, reading
from tests.unit.pages.lens_pieces import HOSTILE, OWN, PROBE, measured, scored

CSS = Path(__file__).parents[3] / "pages" / "lens.css"


@pytest.mark.parametrize(
    ("auc", "leak", "words"),
    [
        (0.95, 0.93, "Length and white space alone reach 0.93 of the probe's 0.95: the answers "),
        (0.95, 0.93, "differ mostly in length"),
        (0.8, 0.9, "reach 0.90, more than the probe's 0.80"),
        (0.95, 0.7, "part of the difference is length"),
        (0.95, 0.6, "reach only 0.60 of the probe's 0.95"),
        (0.95, 0.52, "not by length or white space, which alone are at chance (0.52)"),
        (0.52, 0.5, "Not distinguishable yet: the interval of the AUC contains 1/2."),
        (0.52, 0.9, "Not distinguishable yet"),
        (0.4, 0.5, "the AUC is below 1/2, which a probe reaches by chance alone"),
    ],
)
def test_the_auc_and_the_leak_are_read_together(auc: float, leak: float, words: str) -> None:
    assert words in reading(measured(auc, leak))


def test_an_interval_that_touches_chance_is_not_distinguishable() -> None:
    touching = measured().model_copy(update={"auc": Between(value=0.6, low=0.5, high=0.7)})
    assert reading(touching).startswith("Not distinguishable yet")


@pytest.mark.parametrize(
    ("h", "words"),
    [
        (0.0, "about as likely"),
        (1.0986, "3.0 times as likely in the demonstrations as from the run"),
        (-3.0, "20 times as likely from the run as in the demonstrations"),
        (900.0, "over 10,000 times"),
    ],
)
def test_a_log_ratio_is_said_in_words(h: float, words: str) -> None:
    assert words in in_words(h)


def test_whose_h_it_is_is_said() -> None:
    assert "run's own discriminator, saved beside its policy at step 60" in judged_by(OWN)
    assert "fitted after the fact" in judged_by(PROBE)
    assert "128 training demonstrations" in judged_by(PROBE)


def test_estimates_say_what_they_are_and_are_escaped() -> None:
    html = measured_html(measured())
    assert "1.000 ± 0.050" in html
    assert "0.000 ± 0.050" in html  # no minus before nothing
    assert "First column: a bound" in html
    assert "Plug-in: biased" in html
    assert "<img" not in html
    assert "0.95 <small>(95 %: 0.90 to 1.00)" in html
    assert "400, with backspace, up to 8 tokens" in measured_words(measured())


def test_the_calibration_is_drawn_and_told() -> None:
    drawn = calibration_figure(measured(), "dark")
    assert list(drawn.data[1].x) == [0.15, 0.85]
    assert list(drawn.data[1].customdata) == [100, 156]
    assert "156" in calibration_html(measured())


def test_pieces_are_put_together_and_nothing_is_nothing() -> None:
    assert gather([]).doing == "Starting"
    found = gather(
        [
            LensPiece(text="Loading"),
            LensPiece(text="Writing", done=3, total=1200),
            LensPiece(judge=PROBE),
            LensPiece(scored=scored(("a", 0.1), ("<eos>", 0.0))),
        ]
    )
    assert found.doing == "Writing: 3 of 1,200"
    assert (found.measured, found.judge, len(found.scored)) == (None, PROBE, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0), (0.2, 0), (-0.2, 0), (0.3, 1), (-0.7, -2), (1.7, 3), (5.0, 4), (-5.0, -4)],
)
def test_levels_are_ratios_either_way(value: float, expected: int) -> None:
    assert level(value) == expected


def test_signs_are_true_minus_and_zero_has_none() -> None:
    assert [signed(each) for each in (0.5, -1.25, -0.001)] == ["+0.50", "−1.25", "0.00"]


def test_texts_of_users_and_models_are_escaped_and_white_space_is_seen() -> None:
    answer = scored((HOSTILE, 1.0), (" \n", -1.7), ("<eos>", 0.0), is_sampled=True)
    for html in (heat_html(HOSTILE, PROBE, [answer], "increment"), scores_table([answer])):
        assert "<img" not in html
        assert "&lt;img" in html
        assert '<span class="heat-space"> </span>' in html
        assert "↵" in html
        assert "∎" in html
    html = heat_html("x", PROBE, [answer], "increment")
    assert 'class="heat heat-above heat-p2" title="token 1: h +1.00, adds +1.00"' in html
    assert 'class="heat heat-below heat-n3" title="token 2: h −0.70, adds −1.70"' in html
    assert 'class="heat heat-below heat-n2" title="token 2' in heat_html("", OWN, [answer], "h")


def test_an_answer_without_tokens_or_without_a_culprit_is_said() -> None:
    assert "there is no token" in summary(scored())
    assert "No single token" in summary(scored(("a", 0.1), ("<eos>", 0.0)))
    assert "token 1 (−2.00)" in summary(scored(("a", -2.0), ("<eos>", 0.0)))
    assert "the stop (−2.00)" in summary(scored(("a", 0.0), ("<eos>", -2.0)))
    assert "2 deletions applied" in heat_html("", PROBE, [scored(("a", 0), num_deletions=2)], "h")


def test_every_level_has_its_key() -> None:
    html = legend_html("h")
    for name in ("p1", "p2", "p3", "p4", "n1", "n2", "n3", "n4"):
        assert f"heat-{name}" in html
    assert "low: looks like the model" in html
    assert "high: looks like a demonstration" in html


@pytest.mark.parametrize("theme", ["", ".dark "])
def test_ink_on_every_level_has_enough_contrast(theme: str) -> None:
    css = CSS.read_text(encoding="utf-8")
    for side, levels in (("above", "p"), ("below", "n")):
        (ink,) = re.findall(rf"^{theme}\.heat-{side} {{ color: (#\w+)", css, re.MULTILINE)
        for number in range(1, 5):
            rule = rf"^{theme}\.heat-{levels}{number} {{ background: (#\w+)"
            (ground,) = re.findall(rule, css, re.MULTILINE)
            light, dark = sorted((_luminance(ink), _luminance(ground)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, side, number)


def _luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
