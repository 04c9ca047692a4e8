"""What is suspicious about usable rows: repeated, contradictory, or odd. Nothing is refused."""

import hashlib
import re
from dataclasses import dataclass, field

from seqmatch.ingest.problems import ProblemLog
from seqmatch.types import Demonstration

_SPECIAL_TOKEN = re.compile(
    r"<\|[\w ]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>"
)
_MOJIBAKE = re.compile("â€[™œ\u009d¦“”˜]|Ã[©¨¤¶¼±§\u0080-\u00bf]|Â[°§«»]|ï»¿")
_PERSONAL = (
    ("an e-mail address", re.compile(r"[\w.+-]+@[\w-]+\.[A-Za-z]{2,}")),
    ("a phone number", re.compile(r"\+\d[\d ()/-]{7,}\d")),
    (
        "an access key",
        re.compile(r"\b(?:hf_|sk-|ghp_|xox[bp]-)[A-Za-z0-9_-]{16,}|\bAKIA[A-Z0-9]{16}"),
    ),
)
_PERSONAL_SIGNS = ("@", "+", "hf_", "sk-", "ghp_", "xox", "AKIA")


@dataclass
class RowChecks:
    """Looks at each usable row, remembering short digests of those before it."""

    log: ProblemLog
    _answers: dict[bytes, tuple[bytes, str]] = field(default_factory=dict)
    _openings: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    def check(self, demonstrations: tuple[Demonstration, ...], line: int) -> None:
        """Adds the warnings about the demonstrations of one row: each code at most once."""
        found: dict[str, tuple[str, str]] = {}
        for demonstration in demonstrations:
            self._repeated(demonstration, found)
            _odd_text(demonstration, found)
        self._near_prompt(demonstrations[0], found)
        for code, (message, excerpt) in found.items():
            self.log.add(code, message, line=line, excerpt=excerpt)

    def _repeated(self, row: Demonstration, found: dict[str, tuple[str, str]]) -> None:
        if not row.prompt:
            found.setdefault("W221", ("the prompt is empty", row.completion))
        prompt, answer = _digest(repr(row.prompt)), _digest(row.completion)
        key = prompt if row.prompt else _digest(prompt.hex() + answer.hex())
        first_answer, place = self._answers.setdefault(key, (answer, row.source))
        if place == row.source:
            return
        if first_answer == answer:
            found["W232"] = (
                f"the same row stands at {place} already; both are used",
                row.completion,
            )
        else:
            found["W233"] = (f"the prompt has another answer at {place}", row.completion)

    def _near_prompt(self, row: Demonstration, found: dict[str, tuple[str, str]]) -> None:
        opening = _opening(row)
        digest = _digest(opening)
        first, place = self._openings.setdefault(row.group, (digest, row.source))
        if first != digest:
            found["W235"] = (
                f"the prompt differs from the one at {place} only in case or spacing; the two are "
                "kept on the same side of the split",
                opening,
            )


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _opening(row: Demonstration) -> str:
    if isinstance(row.prompt, str):
        return row.prompt or row.completion
    return next(turn.content for turn in row.prompt if turn.role == "user")


def _odd_text(row: Demonstration, found: dict[str, tuple[str, str]]) -> None:
    prompt = row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content
    if prompt.strip() == row.completion.strip():
        found.setdefault("W234", ("the answer is the prompt itself", row.completion))
    for text in (prompt, row.completion):
        if ("<" in text or "[" in text) and (match := _SPECIAL_TOKEN.search(text)):
            found.setdefault(
                "W236",
                (f"{match[0]!r} is read as plain text, never as a special token", _around(match)),
            )
        if not text.isascii() and (match := _MOJIBAKE.search(text)):
            found.setdefault(
                "W202",
                (f"{match[0]!r} is how UTF-8 looks when read as Windows-1252", _around(match)),
            )
        if any(sign in text for sign in _PERSONAL_SIGNS):
            _personal(text, found)


def _personal(text: str, found: dict[str, tuple[str, str]]) -> None:
    for what, pattern in _PERSONAL:
        if match := pattern.search(text):
            found.setdefault("W237", (f"the text may hold {what}", _around(match)))


def _around(match: re.Match[str]) -> str:
    return match.string[max(match.start() - 20, 0) : match.end() + 40]
