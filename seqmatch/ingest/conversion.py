"""Makes demonstrations of a row: the mapping applied, and the rules of roles and turns."""

import hashlib
from dataclasses import dataclass

from seqmatch.ingest.columns import fits, suggest
from seqmatch.ingest.problems import RowProblem
from seqmatch.ingest.report import FORMATS, ColumnMapping
from seqmatch.ingest.strict_json import describe
from seqmatch.types import Demonstration, Message, Role

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "system": "system",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Converted:
    """The demonstrations of one row, and the keys of its messages that were not used."""

    demonstrations: tuple[Demonstration, ...]
    unused_keys: tuple[str, ...] = ()


def convert(row: dict[str, object], mapping: ColumnMapping, source: str) -> Converted:
    """Returns the demonstrations of a row; `source` says where it stands.

    Raises:
        RowProblem: E120 to E126.
    """
    if not fits(row, mapping):
        raise _misfit(row, mapping)
    if mapping.format in ("messages", "sharegpt"):
        return _conversation(row, mapping, source)
    prompt, completion_column = _prompt(row, mapping)
    completion = _text(row, completion_column, is_answer=True)
    system = _optional(row, mapping, "system")
    turns = (Message("system", system), Message("user", prompt)) if system else ()
    group = group_of(prompt or completion)
    return Converted((Demonstration(turns or prompt, completion, group, source),))


def group_of(opening: str) -> str:
    """Returns the group of all rows with this opening, whatever its case and spacing.

    16 hexadecimal digits of BLAKE2b; rows of one group are never split apart.
    """
    normal = " ".join(opening.casefold().split())
    return hashlib.blake2b(normal.encode(), digest_size=8).hexdigest()


def _misfit(row: dict[str, object], mapping: ColumnMapping) -> RowProblem:
    required = [mapping.fields[name] for name in FORMATS[mapping.format].required]
    missing = next(column for column in required if column not in row)
    keys = ", ".join(row) or "no keys"
    other, doubt = suggest(row)
    if other is not None and not doubt:
        return RowProblem(
            "E120",
            f"the row has {keys}, which is the format {FORMATS[other.format].title!r}; its file is "
            f"read as {FORMATS[mapping.format].title!r} with {', '.join(required)}",
            column=missing,
            excerpt=keys,
        )
    return RowProblem(
        "E123",
        f"there is no {missing!r}; the row has {keys}. Choose the columns in the mapping",
        column=missing,
        excerpt=keys,
    )


def _text(row: dict[str, object], column: str, *, is_answer: bool = False) -> str:
    value = row[column]
    if value is None and is_answer:
        raise RowProblem("E122", f"{column} is null; an answer is a text", column=column)
    if not isinstance(value, str):
        raise RowProblem(
            "E121",
            f"{column} is {describe(value)}, text expected",
            column=column,
            excerpt=repr(value)[:200],
        )
    if is_answer and not value.strip():
        found = "only white space" if value else "empty"
        raise RowProblem("E122", f"{column} is {found}; an answer needs text", column=column)
    return value


def _optional(row: dict[str, object], mapping: ColumnMapping, name: str) -> str:
    column = mapping.fields.get(name)
    return "" if column is None or row.get(column) is None else _text(row, column)


def _prompt(row: dict[str, object], mapping: ColumnMapping) -> tuple[str, str]:
    fields = mapping.fields
    if mapping.format == "text":
        return "", fields["text"]
    if mapping.format == "alpaca":
        parts = [_text(row, fields["instruction"]), _optional(row, mapping, "input")]
        return "\n\n".join(part for part in parts if part), fields["output"]
    return _text(row, fields["prompt"]), fields["completion"]


def _conversation(row: dict[str, object], mapping: ColumnMapping, source: str) -> Converted:
    is_sharegpt = mapping.format == "sharegpt"
    column = mapping.fields["conversations" if is_sharegpt else "messages"]
    turns = row[column]
    if not isinstance(turns, list):
        raise RowProblem(
            "E121",
            f"{column} is {describe(turns)}, a list of messages expected",
            column=column,
            excerpt=repr(turns)[:200],
        )
    role_key, text_key = ("from", "value") if is_sharegpt else ("role", "content")
    roles = _SHAREGPT_ROLES if is_sharegpt else _ROLES
    messages = [
        _message(turn, f"{column}[{number}]", role_key, text_key, roles)
        for number, turn in enumerate(turns)
    ]
    if (system := _optional(row, mapping, "system")) and messages:
        messages.insert(0, Message("system", system))
    _check_order(messages, column)
    unused = {key for turn in turns for key in turn} - {role_key, text_key}
    return Converted(_demonstrations(messages, mapping.turns, source), tuple(sorted(unused)))


def _message(
    turn: object, place: str, role_key: str, text_key: str, roles: dict[str, Role]
) -> Message:
    if not isinstance(turn, dict):
        raise RowProblem(
            "E124",
            f"{place} is {describe(turn)}; a message is an object with {role_key} and {text_key}",
            column=place,
            excerpt=repr(turn)[:200],
        )
    for key in (role_key, text_key):
        if key not in turn:
            raise RowProblem(
                "E124",
                f"{place} has no {key}; it has {', '.join(map(str, turn)) or 'no keys'}",
                column=place,
            )
    role = turn[role_key]
    if not isinstance(role, str) or role not in roles:
        raise RowProblem(
            "E125",
            f"{place} has the {role_key} {role!r}; allowed are {', '.join(roles)}",
            column=place,
            excerpt=str(role),
        )
    return Message(roles[role], _content(turn[text_key], roles[role], f"{place}.{text_key}"))


def _content(content: object, role: Role, place: str) -> str:
    is_empty = content is None or (isinstance(content, str) and not content.strip())
    if is_empty and role == "assistant":
        raise RowProblem("E122", f"{place} is empty; an answer needs text", column=place)
    if is_empty:
        raise RowProblem("E124", f"{place} is empty; a {role} message needs text", column=place)
    if not isinstance(content, str):
        raise RowProblem(
            "E121",
            f"{place} is {describe(content)}, text expected",
            column=place,
            excerpt=repr(content)[:200],
        )
    return content


def _check_order(messages: list[Message], column: str) -> None:
    """System (at most once, first), then user and assistant in turn, and assistant last."""
    sequence = ", ".join(message.role for message in messages)
    if all(message.role != "assistant" for message in messages):
        raise RowProblem(
            "E122", f"{column} has no assistant message ({sequence or 'no messages'})",
            column=column, excerpt=sequence,
        )  # fmt: skip
    start = 1 if messages[0].role == "system" else 0
    wanted = ["user", "assistant"]
    wrong = next(
        (
            index
            for index, message in enumerate(messages[start:], start)
            if message.role != wanted[(index - start) % 2]
        ),
        None,
    )
    reason = "" if messages[-1].role == "assistant" else "the last message is not the assistant's"
    if wrong is not None:
        reason = f"message {wrong + 1} is {messages[wrong].role}, {wanted[(wrong - start) % 2]} due"
    if reason:
        raise RowProblem(
            "E126",
            f"{reason}; allowed are an optional system message, then user and assistant in turn, "
            f"assistant last; found {sequence}",
            column=column,
            excerpt=sequence,
        )


def _demonstrations(messages: list[Message], turns: str, source: str) -> tuple[Demonstration, ...]:
    opening = next(message.content for message in messages if message.role == "user")
    group = group_of(opening)
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return tuple(
        Demonstration(tuple(messages[:index]), messages[index].content, group, source)
        for index in (answers[-1:] if turns == "last" else answers)
    )
