"""JSON as the standard has it, within limits; what Python lets pass silently is refused by name.

Depth is counted before parsing, so that no input reaches the parser's recursion limit.
"""

import json
import math
import re
from json import JSONDecodeError
from typing import Any

from seqmatch.ingest.problems import RowProblem
from seqmatch.ingest.report import Limits

_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)
_PYTHON_OBJECT = re.compile(
    r"\s*[\[{(]\s*(?:\{\s*)?'|\s*\{\s*\"[^\"]*\"\s*:\s*(?:None|True|False)\b"
)


def parse_object(text: str, limits: Limits, *, is_cut_off: bool = False) -> dict[str, Any]:
    """Returns the object that a row of JSON holds. `is_cut_off`: the file ends without a line end.

    Raises:
        RowProblem: E110 to E116, E130, E133.
    """
    _check_depth(text, limits.max_depth)
    reader = _Reader(limits)
    try:
        value = reader.decoder.decode(text)
    except JSONDecodeError as error:
        raise _syntax_problem(error, is_cut_off=is_cut_off) from None
    if not isinstance(value, dict):
        raise RowProblem(
            "E113",
            f"the row is {describe(value)}; a row is an object with keys, such as "
            '{"prompt": "...", "completion": "..."}',
            excerpt=text,
        )
    if "\\u" in text:
        _check_escapes(value)
    return value


def describe(value: object) -> str:
    """Returns the kind of a JSON value in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, list | tuple):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a {type(value).__name__}"


class _Reader:
    """The hooks of one parse; each refuses what Python would take silently."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._real,
            parse_constant=_refuse_constant,
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > self._limits.max_columns:
            raise RowProblem(
                "E133",
                f"an object has {len(pairs):,} keys; at most {self._limits.max_columns:,} are "
                "allowed",
            )
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise RowProblem(
                "E112", f"the key {twice!r} stands twice in one object", column=twice, excerpt=twice
            )
        return found

    def _integer(self, digits: str) -> int:
        if len(digits) > self._limits.max_digits:
            raise RowProblem(
                "E116",
                f"an integer has {len(digits):,} digits; at most {self._limits.max_digits:,} are "
                "allowed",
                excerpt=digits,
            )
        return int(digits)

    def _real(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise RowProblem("E116", f"{digits[:40]} is beyond the largest number", excerpt=digits)
        return number


def _refuse_constant(name: str) -> object:
    raise RowProblem("E111", f"{name} is not JSON; write null or a number", excerpt=name)


def _check_depth(text: str, max_depth: int) -> None:
    if text.count("{") + text.count("[") <= max_depth:
        return
    depth = 0
    for token in _TOKENS.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > max_depth:
                raise RowProblem(
                    "E130",
                    f"brackets are nested deeper than {max_depth} levels at character "
                    f"{token.start() + 1}; {max_depth} are allowed",
                    excerpt=text,
                )
        elif first in "]}":
            depth -= 1


def _check_escapes(value: dict[str, Any]) -> None:
    r"""Refuses lone surrogates and \u0000, which only escapes can write."""
    for key, found in _texts(value):
        if "\0" in found:
            raise RowProblem("E115", "the text holds a NUL character", column=key, excerpt=found)
        try:
            found.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowProblem(
                "E114",
                f"\\u{ord(found[error.start]):04x} at character {error.start + 1} is half of a "
                "surrogate pair",
                column=key,
                excerpt=found,
            ) from None


def _texts(value: object, key: str = "") -> "list[tuple[str, str]]":
    if isinstance(value, str):
        return [(key, value)]
    if isinstance(value, list):
        return [pair for item in value for pair in _texts(item, key)]
    if isinstance(value, dict):
        return [
            pair
            for name, item in value.items()
            for pair in [(key or name, name), *_texts(item, key or name)]
        ]
    return []


def _syntax_problem(error: JSONDecodeError, *, is_cut_off: bool) -> RowProblem:
    text, at = error.doc, error.pos
    excerpt = f"{text[max(at - 40, 0) : at]}‸{text[at : at + 38]}"
    line = error.lineno - 1
    if error.msg.startswith("Invalid control character"):
        return RowProblem(
            "E115",
            f"character {error.colno} is the control character U+{ord(text[at]):04X}; inside "
            "quotes write it as an escape such as \\n or \\t",
            excerpt=excerpt,
            line=line,
        )
    hint = _hint(text, at, error.msg, is_cut_off=is_cut_off)
    return RowProblem(
        "E110",
        f"not valid JSON at character {error.colno}: {error.msg}{hint}",
        excerpt=excerpt,
        line=line,
    )


def _hint(text: str, at: int, message: str, *, is_cut_off: bool) -> str:
    if _PYTHON_OBJECT.match(text):
        return "; this looks like Python, not JSON: JSON has double quotes, null, true and false"
    if text[:at].rstrip().endswith(",") and text[at : at + 1] in ("}", "]"):
        return "; there is a trailing comma"
    if "trailing comma" in message:
        return ""
    if is_cut_off and (message.startswith("Unterminated") or not text[at:].strip()):
        return "; the file seems cut off here"
    if text.strip() == "{":
        return (
            "; this looks like one object over several lines: write one object a line, or an "
            "array [...] of objects"
        )
    return ""
