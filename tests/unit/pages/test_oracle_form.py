"""The form of the Oracle page: choices from the registries, a request or the problem in words."""

import re
from dataclasses import replace

import pytest

from pages.presenters.oracle_form import (
    AS_LANGUAGE,
    MAX_OBJECTIVES,
    FormValues,
    backspace_value,
    language_choices,
    language_html,
    objective_groups,
    read_request,
    seeds_text,
    size_words,
)
from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.exact.choices import DEFAULT_OBJECTIVES, ORACLE_OBJECTIVES
from seqmatch.exact.languages import LANGUAGES

VALUES = FormValues(
    "two_modes", "", DEFAULT_OBJECTIVES, 0.01, "0-4", "answers", AS_LANGUAGE, AS_LANGUAGE, 0.5, 0
)


def test_every_objective_is_offered_once() -> None:
    offered = [key for group in objective_groups() for _, key in group.choices]
    assert sorted(offered) == sorted(ORACLE_OBJECTIVES)
    assert set(DEFAULT_OBJECTIVES) <= set(offered)


@pytest.mark.parametrize("name", list(LANGUAGES))
def test_every_language_has_a_sentence_and_a_picture(name: str) -> None:
    assert name in [value for _, value in language_choices()]
    html = language_html(name, "")
    assert LANGUAGES[name].sentence in html
    assert 1 < html.count("<tr>") <= 11


def test_a_form_makes_a_request() -> None:
    request = read_request(VALUES)
    assert request.objectives == list(DEFAULT_OBJECTIVES)
    assert request.seeds == [0, 1, 2, 3, 4]
    assert request.backspace is None
    assert read_request(replace(VALUES, backspace="off")).backspace is False
    assert request.policy is None
    assert read_request(replace(VALUES, policy="tabular")).policy == "tabular"
    assert seeds_text(request.seeds) == "0-4"
    assert seeds_text([0, 3]) == "0, 3"
    assert backspace_value(False) == "off"
    assert size_words(6, 5) == "6 objectives × 5 seeds = 30 runs"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": []}, f"choose 1 to {MAX_OBJECTIVES}"),
        ({"objectives": list(ORACLE_OBJECTIVES)[:1] * 40}, "40 objectives are chosen"),
        ({"alpha": 0.0}, "Entropy weight alpha: Input should be greater than 0, not 0.0"),
        ({"alpha": None}, "Entropy weight alpha"),
        ({"seeds": "a"}, "Seeds: "),
        ({"divergence_order": 3.0}, "Order of the alpha divergence"),
        ({"objectives": ["magic"]}, "unknown objective 'magic'"),
        ({"language": "table", "table": "ab 1\nba zero"}, "line 2"),
        ({"language": "table", "table": ""}, "empty"),
        ({"language": "klingon"}, "unknown language 'klingon'"),
    ],
)
def test_a_problem_is_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=re.escape(words)):
        read_request(replace(VALUES, **changes))  # type: ignore[arg-type]


def test_a_pasted_table_is_pictured_as_text() -> None:
    html = language_html("table", "<i> 3\nb 1")
    assert "&lt;i&gt;" in html
    assert "75 %" in html
