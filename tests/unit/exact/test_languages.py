"""The built-in languages and tables that people paste."""

import math
import subprocess
import sys

import pytest

from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.exact.languages import (
    LANGUAGES,
    Language,
    complete_answers,
    get_language,
    parse_language,
)


@pytest.mark.parametrize("name", LANGUAGES)
def test_built_in_languages_are_laws_of_complete_answers(name: str) -> None:
    language = get_language(name)

    assert language.name == name
    assert math.fsum(language.law.values()) == pytest.approx(1.0, abs=1e-12)
    assert language.law.keys() <= set(complete_answers(len(language.tokens), language.max_length))
    assert language.title
    assert language.sentence.endswith(".")


def test_unknown_language_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="geometric, trap, two_modes"):
        get_language("three_modes")


def test_two_modes_are_those_and_every_other_answer_is_rare_but_possible() -> None:
    language = get_language("two_modes")
    ranked = sorted(language.law, key=lambda answer: -language.law[answer])

    assert [language.text(answer) for answer in ranked[:2]] == ["ok", "no"]
    assert len(ranked) == len(list(complete_answers(4, 3))) == 13
    assert 0 < language.law[ranked[2]] == pytest.approx(0.1 / 11)


def test_trap_law_avoids_the_pit_and_nothing_else() -> None:
    language = get_language("trap")
    pit = language.tokens.index("pit")

    for answer in complete_answers(3, 4):
        assert (language.law.get(answer, 0.0) > 0) == (pit not in answer)


def test_geometric_stops_with_probability_one_half() -> None:
    law = get_language("geometric").law

    for n in range(5):
        assert law[(*[1] * n, 0)] / sum(law[(*[1] * k, 0)] for k in range(n, 6)) == 0.5


def test_sums_modulo_4_are_right_in_19_of_20_answers() -> None:
    language = get_language("addition_mod_4")
    texts = {language.text(answer): p for answer, p in language.law.items()}

    right = [f"{a}{b}{(a + b) % 4}" for a in range(4) for b in range(4)]
    assert math.fsum(texts[text] for text in right) == pytest.approx(0.95)
    assert all(p > 0 for p in texts.values())


@pytest.mark.parametrize(
    ("table", "law"),
    [
        ("ab 0.75\nb 0.25", {"ab": 0.75, "b": 0.25}),
        ("ab\t0.75\n\t0.25\n\n", {"ab": 0.75, "(empty)": 0.25}),
        ("ab,0.75\r\n(empty),0.25\r\n", {"ab": 0.75, "(empty)": 0.25}),
        ('"ab";3\n"";1', {"ab": 0.75, "(empty)": 0.25}),
        ("  go left 3 \n stop 1", {"go left": 0.75, "(empty)": 0.25}),
        ("go,left,0.75\ngo stop 0.25", {"go left": 0.75, "go": 0.25}),
        ("a b 1e0\nab 0", {"a b": 1.0, "ab": 0.0}),
    ],
)
def test_table_is_read(table: str, law: dict[str, float]) -> None:
    language = parse_language(table)

    assert {language.text(answer): p for answer, p in language.law.items()} == law


def test_counts_are_normalised_and_said_so() -> None:
    assert "sum to 8 and were divided" in parse_language("a 6\nb 2").sentence
    assert "divided" not in parse_language("a 0.6\nb 0.4").sentence


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "table is empty"),
        (" \n\n", "table is empty"),
        ("a 0.5\n0.5", "line 2: '0.5' is not an answer and its probability"),
        ("a 0.5\n\n 0.5", "line 3: '0.5' is not an answer"),
        ("b 1\na 0,5", "line 2: 0,5 could be one number or two; write 0.5, or 0 5 where"),
        ("a half", "line 1: 'half' is not a number"),
        ("a 1\nb -0.5", "line 2: probability -0.5; allowed: 0 and more"),
        ("a nan", "line 1: probability nan"),
        ("a inf", "line 1: probability inf"),
        ("ab 1\nb 2\nab 3", "line 3: answer 'a b' stands in line 1 too"),
        ("a 1\nabcdef 1", "line 2: an answer of 6 tokens; allowed: up to 5"),
        ("abcd 1\nefgh 1", "line 2: up to here there are 8 different tokens; allowed: 7"),
        ("a 0\nb 0", "all probabilities are 0"),
        ("go stop on 1", "line 1: 'stop' within an answer"),
        ("(empty) 1", "no answer of the table has a token"),
    ],
)
def test_unreadable_table_names_its_line(table: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_language(table)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokens": ("stop",)}, "1 tokens"),
        ({"tokens": ("end", "a")}, "'stop' first"),
        ({"max_length": 7}, "allowed: 1 to 6"),
        ({"law": {(1,): 1.0}}, "then the stop token 0"),
        ({"law": {(1, 1, 0): 1.0}}, "has 3 tokens; allowed: 2"),
        ({"law": {(1, 0): 0.5}}, "must sum to 1"),
        ({"law": {(1, 0): 1.5, (0,): -0.5}}, "allowed: 0 to 1"),
        ({"noise_rate": 1.0}, "noise rate"),
        ({"discount": 1.0}, "discount"),
    ],
)
def test_language_that_is_none_is_refused(changed: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {
        "name": "x",
        "title": "X",
        "sentence": "X.",
        "tokens": ("stop", "a"),
        "max_length": 2,
        "law": {(1, 0): 1.0},
        "policy": "tabular",
        "backspace": False,
        "noise_rate": 0.0,
        "discount": 0.9,
    }
    Language(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as raised:
        Language(**{**settings, **changed})  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_languages_are_light() -> None:
    script = "import seqmatch.exact.languages, sys; print({'torch', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
