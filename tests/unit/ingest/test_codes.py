"""The registry of problem codes, and the document that lists it."""

import re
from pathlib import Path

import pytest

from seqmatch.errors import UnknownNameError
from seqmatch.ingest.codes import PROBLEM_CODES, ProblemCode, get_code

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/demonstrations.md"


@pytest.mark.parametrize("code", PROBLEM_CODES.values(), ids=lambda code: code.code)
def test_a_code_has_a_severity_and_one_sentence(code: ProblemCode) -> None:
    assert get_code(code.code) is code
    assert re.fullmatch(r"[EWI]\d{3}", code.code)
    sentence = code.sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert code.severity in ("error", "warning", "info")


def test_the_document_lists_the_codes_with_their_sentences() -> None:
    listed = dict(re.findall(r"^\| (\w\d{3}) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE))
    assert listed == {code.code: code.sentence for code in PROBLEM_CODES.values()}


def test_an_unknown_code_names_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="E101"):
        get_code("E999")
