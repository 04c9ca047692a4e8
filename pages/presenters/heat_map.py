"""Tokens of answers coloured by h: plain data in, escaped HTML out. The colours are in lens.css.

Levels are the same for every text and run: a ratio of 1.25, 2, 5 and 20, either way. The sign is
also in the line under a token, solid above 0 and dotted below, on hover, and in the table.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Literal

from pages.components.plain import markup_table
from pages.components.trace_view import stop_mark, visible_text
from pages.presenters.spreadsheet import csv_link, to_csv
from seqmatch.jobs.lens_types import Judge, ScoredAnswer, ScoredToken
from seqmatch.jobs.lens_words import in_words, judged_by

View = Literal["h", "increment"]
VIEWS: tuple[tuple[str, View], ...] = (("h so far", "h"), ("what each token adds", "increment"))
RATIOS = (1.25, 2.0, 5.0, 20.0)
_MEANING: dict[View, str] = {
    "h": "The text up to and with a token: how many times as likely it is in the demonstrations as "
    "from the run (blue), or the other way round (orange).",
    "increment": "One token, given the text before it: how many times as likely the demonstrations "
    "go on with it as the run does (blue), or the other way round (orange).",
}


def level(value: float) -> int:
    """Returns how far a log ratio is from 0, from -4 to 4: how many of the ratios it passes."""
    passed = sum(abs(value) >= math.log(ratio) for ratio in RATIOS)
    return passed if value > 0 else -passed


def signed(value: float) -> str:
    """Returns a log ratio with its sign and a true minus: "+0.42", "−1.30"."""
    text = f"{value:+.2f}".replace("-", "−")
    return text if float(f"{value:.2f}") else "0.00"


def legend_html(view: View) -> str:
    """Returns the key of the colours, from low to high, and what the numbers are of."""
    steps = [
        *((f"{ratio:g}×", -place) for place, ratio in reversed(list(enumerate(RATIOS, 1)))),
        ("even", 0),
        *((f"{ratio:g}×", place) for place, ratio in enumerate(RATIOS, 1)),
    ]
    keys = "".join(f'<span class="{_css(at)}">{text}</span>' for text, at in steps)
    return (
        '<div class="heat-legend"><span>low: looks like the model</span>'
        f'<span class="heat-keys">{keys}</span><span>high: looks like a demonstration</span></div>'
        f'<p class="hint">{_MEANING[view]}</p>'
    )


def heat_html(prompt: str, judge: Judge, answers: Sequence[ScoredAnswer], view: View) -> str:
    """Returns whose h it is, the key, the prompt, and every answer with its tokens coloured."""
    parts = "".join(_answer(number, one, view) for number, one in enumerate(answers, 1))
    return (
        f'<p class="hint">{escape(judged_by(judge))}</p>{legend_html(view)}'
        f'<div class="heat-prompt"><small>Prompt</small><div class="heat-text">'
        f"{visible_text(prompt)}</div></div>{parts}"
    )


def scores_table(answers: Sequence[ScoredAnswer]) -> str:
    """Returns every token with its h and increment, a table an answer, and a link to save all."""
    head = ("Token", "h so far", "What it adds")
    tables = []
    for number, answer in enumerate(answers, 1):
        rows = [
            [f"<code>{_token_text(each)}</code>", signed(each.h), signed(each.increment)]
            for each in answer.tokens
        ]
        title = f"Answer {number}, in nats"
        tables.append(
            f"<h4>{title}</h4>{markup_table(head, rows, title, ('token', 'number', 'number'))}"
        )
    saved = to_csv(
        ("answer", "position", "token", "text", "h", "increment"),
        [
            (number, at, each.id, each.text, each.h, each.increment)
            for number, answer in enumerate(answers, 1)
            for at, each in enumerate(answer.tokens, 1)
        ],
    )
    return f'<div class="heat-tables">{"".join(tables)}</div>{csv_link("lens-tokens.csv", saved)}'


def summary(answer: ScoredAnswer) -> str:
    """Returns what the whole answer's h says, and which token took most from it."""
    if not answer.tokens:
        return "Nothing stands: there is no token to look at."
    last = answer.tokens[-1].h
    words = f"Whole answer: h {signed(last)}, {in_words(last)}."
    worst = min(answer.tokens, key=lambda token: token.increment)
    if level(worst.increment) < 0:
        place = answer.tokens.index(worst) + 1
        name = "the stop" if worst.is_stop else f"token {place}"
        words += f" Most like the model: {name} ({signed(worst.increment)})."
    else:
        words += " No single token gives it away."
    return words


def _answer(number: int, answer: ScoredAnswer, view: View) -> str:
    facts = ["written by the run" if answer.is_sampled else "pasted"]
    if answer.num_deletions:
        plural = "" if answer.num_deletions == 1 else "s"
        facts.append(f"{answer.num_deletions} deletion{plural} applied")
    if not answer.is_finished:
        facts.append("reached the limit before it stopped")
    tokens = "".join(_token(place, token, view) for place, token in enumerate(answer.tokens, 1))
    head = f"<h4>Answer {number} <small>{', '.join(facts)}</small></h4>"
    text = f'<div class="heat-text" dir="auto">{tokens}</div>'
    return f'<article class="heat-answer">{head}{text}<p>{escape(summary(answer))}</p></article>'


def _token(place: int, token: ScoredToken, view: View) -> str:
    value = token.h if view == "h" else token.increment
    title = f"token {place}: h {signed(token.h)}, adds {signed(token.increment)}"
    body = stop_mark(token.text) if token.is_stop else _with_spaces(visible_text(token.text))
    if token.is_stop:
        title += " (stop)"
    return f'<span class="{_css(level(value))}" title="{title}">{body}</span>'


def _css(at: int) -> str:
    if at == 0:
        return "heat heat-even"
    return f"heat heat-above heat-p{at}" if at > 0 else f"heat heat-below heat-n{-at}"


def _token_text(token: ScoredToken) -> str:
    return stop_mark(token.text) if token.is_stop else _with_spaces(visible_text(token.text))


def _with_spaces(markup: str) -> str:
    """Wraps spaces of text, never those inside a tag, so that the style can put a dot on them."""
    parts, inside = [], False
    for character in markup:
        inside = character == "<" or (inside and character != ">")
        is_space = character == " " and not inside
        parts.append('<span class="heat-space"> </span>' if is_space else character)
    return "".join(parts)
