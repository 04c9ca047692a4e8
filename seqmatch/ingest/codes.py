"""The problems that uploaded demonstrations can have: one code and one sentence each.

E: the row (or the file) is refused. W: it is used, and somebody should look. I: how it was read.
`docs/demonstrations.md` lists the same codes; a test holds it to this registry.
"""

from dataclasses import dataclass
from typing import Literal

from seqmatch.errors import unknown_name

Severity = Literal["error", "warning", "info"]

_SEVERITIES: dict[str, Severity] = {"E": "error", "W": "warning", "I": "info"}


@dataclass(frozen=True)
class ProblemCode:
    """One kind of problem."""

    code: str
    sentence: str

    @property
    def severity(self) -> Severity:
        """What the problem does: refuse, warn or inform."""
        return _SEVERITIES[self.code[0]]


PROBLEM_CODES: dict[str, ProblemCode] = {
    code: ProblemCode(code, sentence)
    for code, sentence in (
        ("E101", "The file is empty."),
        ("E102", "There is no row to train on."),
        ("E103", "The text is not UTF-8."),
        (
            "E104",
            "The file is of a kind that is not read: compressed, binary, or named as another.",
        ),
        ("E105", "The file is a web page."),
        ("E110", "This is not valid JSON."),
        ("E111", "NaN and Infinity are not JSON."),
        ("E112", "A key stands twice in one object."),
        ("E113", "The row is not an object with keys."),
        ("E114", "The text holds half a character (a lone surrogate)."),
        ("E115", "The text holds a control character that may not stand there."),
        ("E116", "A number is too large."),
        ("E120", "The row is of another format than the rest of its file."),
        ("E121", "A value is not text."),
        ("E122", "The answer is missing or empty."),
        ("E123", "A column or key that the mapping names is missing."),
        ("E124", "A message has no role or no content."),
        ("E125", "A message has a role that is not known."),
        ("E126", "The turns of the conversation are not in an order that can be trained on."),
        ("E130", "The row is nested too deeply."),
        ("E131", "The row is too large."),
        ("E132", "The file is too large when unpacked."),
        ("E133", "There are too many columns or keys."),
        ("E134", "There are more rows than are allowed."),
        ("E135", "The upload is too large."),
        ("E136", "Reading the file was stopped."),
        ("E140", "The Parquet file cannot be read."),
        ("E150", "The row has another number of fields than the header."),
        ("E151", "A quote is opened and never closed."),
        ("E152", "Two columns have the same name."),
        ("E153", "The row does not follow the rules of CSV."),
        ("W201", "The file starts with a byte order mark; it was skipped."),
        ("W202", "The text looks as if it had been read in the wrong encoding once."),
        ("W203", "The name of the file says another format than its content."),
        ("W210", "The columns are not separated by commas."),
        ("W211", "The first row looks like data, not like column names."),
        ("W212", "The columns could be meant in more than one way."),
        ("W220", "A message has keys that are not used."),
        ("W221", "The prompt is empty."),
        ("W230", "The row is longer than the limit in tokens."),
        ("W231", "There are few rows."),
        ("W232", "The same prompt with the same answer stands there already."),
        ("W233", "The same prompt has another answer elsewhere."),
        ("W234", "The answer repeats the prompt."),
        ("W235", "Nearly the same prompt stands there already, so a held-out one might be known."),
        ("W236", "The text holds what looks like a special token; it is read as plain text."),
        ("W237", "The text may hold personal data or a key."),
        ("I301", "The file is a JSON array."),
        ("I302", "The file is plain text: each paragraph is an answer without a prompt."),
        ("I303", "There are columns that are not used."),
    )
}


def get_code(code: str) -> ProblemCode:
    """Returns the problem code of this name.

    Raises:
        UnknownNameError: there is no such code.
    """
    if code not in PROBLEM_CODES:
        raise unknown_name("problem code", code, PROBLEM_CODES)
    return PROBLEM_CODES[code]
