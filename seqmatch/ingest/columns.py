"""Which columns mean what: names that are known, and the mapping that a row's keys suggest."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from seqmatch.ingest.report import FORMATS, ColumnMapping

PROMPT_NAMES = ("prompt", "question", "instruction", "query", "problem", "input", "source", "user")
COMPLETION_NAMES = (
    "completion", "response", "answer", "output", "target", "reply", "expected", "solution",
    "assistant", "ideal",
)  # fmt: skip
CONVERSATION_NAMES = ("messages", "conversations", "conversation", "dialog", "dialogue")
TEXT_NAMES = ("text", "content", "document")
SYSTEM_NAMES = ("system", "system_prompt")
SAMPLE_ROWS = 200


@dataclass(frozen=True)
class Detection:
    """What the first rows of a file suggest."""

    mapping: ColumnMapping | None
    columns: tuple[str, ...]
    doubt: str = ""
    """Why the columns could also be meant otherwise; empty where they are clear."""


def is_known_name(name: str) -> bool:
    """Says whether a column of this name has a known meaning."""
    known = (*PROMPT_NAMES, *COMPLETION_NAMES, *CONVERSATION_NAMES, *TEXT_NAMES, *SYSTEM_NAMES)
    return name.strip().lower() in known


def detect(rows: Iterable[dict[str, object]]) -> Detection:
    """Returns the mapping that most of the rows suggest; of equals, the earliest one."""
    votes: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()
    found: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[ColumnMapping, str]] = {}
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row))
        mapping, doubt = suggest(row)
        if mapping is not None:
            key = (mapping.format, tuple(mapping.fields.items()))
            votes[key] += 1
            found.setdefault(key, (mapping, doubt))
    if not votes:
        return Detection(None, tuple(columns))
    mapping, doubt = found[votes.most_common(1)[0][0]]
    return Detection(mapping, tuple(columns), doubt)


def suggest(row: dict[str, object]) -> tuple[ColumnMapping | None, str]:
    """Returns the mapping that one row's keys suggest, and the doubt about it."""
    by_name = {name.strip().lower(): name for name in reversed(row)}
    return (
        _conversation(row, by_name)
        or _alpaca(by_name)
        or _pair(by_name)
        or _text(row, by_name)
        or _two_columns(row)
        or (None, "")
    )


def fits(row: dict[str, object], mapping: ColumnMapping) -> bool:
    """Says whether the row has all the columns that the mapping must have."""
    return all(mapping.fields[name] in row for name in FORMATS[mapping.format].required)


_Suggestion = tuple[ColumnMapping, str] | None


def _named(by_name: dict[str, str], names: Iterable[str]) -> list[str]:
    return [by_name[name] for name in names if name in by_name]


def _system(by_name: dict[str, str]) -> dict[str, str]:
    found = _named(by_name, SYSTEM_NAMES)
    return {"system": found[0]} if found else {}


def _conversation(row: dict[str, object], by_name: dict[str, str]) -> _Suggestion:
    for name in _named(by_name, CONVERSATION_NAMES):
        turns = row[name]
        is_list = isinstance(turns, list)
        first = turns[0] if isinstance(turns, list) and turns else None
        keys = set(first) if isinstance(first, dict) else set()
        if "from" in keys or (not keys and is_list and name.lower() != "messages"):
            fields = {"conversations": name, **_system(by_name)}
            return ColumnMapping(format="sharegpt", fields=fields), ""
        if is_list or name.lower() == "messages":
            fields = {"messages": name, **_system(by_name)}
            return ColumnMapping(format="messages", fields=fields), ""
    return None


def _alpaca(by_name: dict[str, str]) -> _Suggestion:
    if not {"instruction", "output"} <= set(by_name) or "prompt" in by_name:
        return None
    fields = {name: by_name[name] for name in ("instruction", "output")}
    fields |= {"input": by_name["input"]} if "input" in by_name else {}
    return ColumnMapping(format="alpaca", fields=fields | _system(by_name)), ""


def _pair(by_name: dict[str, str]) -> _Suggestion:
    prompts, completions = _named(by_name, PROMPT_NAMES), _named(by_name, COMPLETION_NAMES)
    if not prompts or not completions:
        return None
    fields = {"prompt": prompts[0], "completion": completions[0], **_system(by_name)}
    doubts = [
        f"{', '.join(names[1:])} could also be the {part} ({names[0]} is used)"
        for part, names in (("prompt", prompts), ("answer", completions))
        if len(names) > 1
    ]
    return ColumnMapping(format="prompt_completion", fields=fields), "; ".join(doubts)


def _text(row: dict[str, object], by_name: dict[str, str]) -> _Suggestion:
    named = _named(by_name, TEXT_NAMES)
    if named:
        others = [name for name in row if name != named[0]]
        doubt = f"{', '.join(others)} could hold prompts or answers" if others else ""
        return ColumnMapping(format="text", fields={"text": named[0]}), doubt
    only = next(iter(row), "")
    if len(row) == 1 and not is_known_name(only):
        doubt = f"{only} is the only column; it is read as the answer to an empty prompt"
        return ColumnMapping(format="text", fields={"text": only}), doubt
    return None


def _two_columns(row: dict[str, object]) -> _Suggestion:
    if len(row) != 2:
        return None
    first, second = row
    doubt = f"no name is known, so {first} is read as the prompt and {second} as the answer"
    fields = {"prompt": first, "completion": second}
    return ColumnMapping(format="prompt_completion", fields=fields), doubt
