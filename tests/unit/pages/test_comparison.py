"""A comparison from its streamed pieces: columns, table, CSV."""

import csv
import io

from pages.presenters.comparison import (
    HEADERS,
    comparison_html,
    gather,
    longest,
    table_html,
    table_rows,
)
from pages.presenters.spreadsheet import to_csv
from seqmatch.jobs.task_types import ActionCell, GenerateChunk, GenerateRequest, PolicyRef

HOSTILE = "<script>alert(1)</script>"
REQUEST = GenerateRequest(
    prompts=["1+1=", HOSTILE],
    policies=[
        PolicyRef(kind="base", base_model="byte-llama-small", label=HOSTILE),
        PolicyRef(kind="run", run_id="r", label="run"),
    ],
    backspace=[True, False],
)
BACK = ActionCell(id=259, text="", is_backspace=True)


def _cells(text: str) -> list[ActionCell]:
    return [BACK if c == "<" else ActionCell(id=ord(c), text=c, is_backspace=False) for c in text]


def _chunk(typed: str, *, prompt: int = 0, is_done: bool = False, **more: object) -> GenerateChunk:
    fields = {"policy_index": 1, "backspace": True, "prompt_index": prompt, "is_done": is_done}
    return GenerateChunk.model_validate(fields | {"actions": _cells(typed)} | more)


def test_pieces_of_an_answer_are_joined_in_order() -> None:
    pieces = [_chunk("57"), _chunk("x", prompt=1), _chunk("<8", is_done=True, text="58")]
    answers = gather(REQUEST, pieces)
    assert len(answers) == 8
    answer = answers[0, 1, True]
    assert (answer.is_done, answer.text) == (True, "58")
    assert (answer.counts.num_actions, answer.counts.num_deletions) == (4, 1)
    assert answer.counts.num_tokens == 2
    assert longest(answers.values()) == 4


def test_no_text_of_people_or_models_becomes_markup() -> None:
    cell = ActionCell(id=1, text=HOSTILE, is_backspace=False)
    chunk = _chunk("", is_done=True, text=HOSTILE).model_copy(update={"actions": [cell]})
    failed = _chunk("", prompt=1, is_done=True, error=HOSTILE)
    answers = gather(REQUEST, [chunk, failed])
    rows = table_rows(answers.values())
    for html in (comparison_html(REQUEST, answers, None), table_html(rows)):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_a_replay_shows_the_first_actions_alone() -> None:
    answers = gather(REQUEST, [_chunk("57<8", is_done=True, text="58")])
    assert "<del" not in comparison_html(REQUEST, answers, 2)
    assert "<del" in comparison_html(REQUEST, answers, 3)
    assert "<ins" in comparison_html(REQUEST, answers, None)


def test_the_table_has_a_row_for_each_answer_and_says_how_it_ended() -> None:
    pieces = [
        _chunk("5", is_done=True, text="5", is_finished=False),
        _chunk("", prompt=1, is_done=True, error="no weights"),
    ]
    rows = table_rows(gather(REQUEST, pieces).values())
    assert len(rows) == 8
    endings = {(row[0], row[2], row[3]): row[5] for row in rows}
    assert endings["1+1=", "run", "with backspace"] == "limit reached"
    assert endings[HOSTILE, "run", "with backspace"] == "failed"
    assert endings["1+1=", "run", "without backspace"] == "not yet"


def test_a_csv_keeps_texts_and_starts_no_formula() -> None:
    rows: list[list[str | int]] = [
        ["=cmd()", "", 'a "quoted", line\nand more', "@x", "-1", "", 1, 2, 3]
    ]
    read = list(csv.reader(io.StringIO(to_csv(HEADERS, rows))))
    assert tuple(read[0]) == HEADERS
    texts = ["'=cmd()", "", 'a "quoted", line\nand more', "'@x", "'-1", ""]
    assert read[1] == [*texts, "1", "2", "3"]


def test_the_experts_answer_stands_beside_the_answers_to_its_prompt() -> None:
    request = REQUEST.model_copy(update={"references": [HOSTILE, None]})
    answers = gather(request, [])
    html = comparison_html(request, answers, None)
    assert html.count("compare-reference") == 1
    assert html.index("compare-reference") < html.index("Prompt 2")
    assert "<script" not in html
    assert {row[1] for row in table_rows(answers.values())} == {HOSTILE, ""}
