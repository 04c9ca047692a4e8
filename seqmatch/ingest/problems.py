"""Collects problems: all are counted, the first ones are described."""

import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from seqmatch.ingest.codes import Severity, get_code
from seqmatch.ingest.report import Problem

EXCERPT_CHARACTERS = 80
MESSAGE_CHARACTERS = 400


class RowProblem(Exception):  # noqa: N818 - not an error of the program: a finding about a row
    """A row is refused. `line` is given where it is not the line at which the row starts."""

    def __init__(
        self, code: str, message: str, *, column: str = "", excerpt: str = "", line: int = 0
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.column = column
        self.excerpt = excerpt
        self.line = line


class FileProblem(RowProblem):
    """Nothing more of the file can be read."""


def clean(text: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """Returns at most `limit` characters of a text, made safe to be shown in one line.

    Control and direction characters, line separators and lone surrogates become a middle dot.
    """
    shown = text[: limit + 1]
    safe = "".join(
        " "
        if c in "\t\n\r"
        else "·"
        if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"
        else c
        for c in shown
    )
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


@dataclass
class ProblemLog:
    """The problems of an upload. Errors never give way to warnings."""

    max_problems: int
    counts: Counter[str] = field(default_factory=Counter)
    _kept: dict[Severity, list[tuple[int, int, int, Problem]]] = field(
        default_factory=lambda: {"error": [], "warning": [], "info": []}
    )
    _file: str = ""
    _file_number: int = 0

    def start_file(self, name: str) -> None:
        """All further problems are of this file."""
        self._file = clean(name, 120)
        self._file_number += 1

    def add(
        self, code: str, message: str, *, line: int = 0, column: str = "", excerpt: str = ""
    ) -> None:
        """Counts a problem, and keeps it while there is room."""
        severity = get_code(code).severity
        self.counts[code] += 1
        kept = self._kept[severity]
        if len(kept) < self.max_problems:
            problem = Problem(
                code=code,
                severity=severity,
                file=self._file,
                line=line,
                column=clean(column),
                message=clean(message, MESSAGE_CHARACTERS),
                excerpt=clean(excerpt),
            )
            kept.append((self._file_number, line, len(kept), problem))

    def listed(self) -> tuple[Problem, ...]:
        """Returns the kept problems in the order of files and lines."""
        chosen = [*self._kept["error"], *self._kept["info"], *self._kept["warning"]]
        chosen = chosen[: self.max_problems]
        return tuple(entry[3] for entry in sorted(chosen, key=lambda entry: entry[:3]))
