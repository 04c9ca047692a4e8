"""Conversations as tokens, by the model's own chat template.

The whole answered conversation is rendered once and tokenised once. What of it is the answer is
found by characters: all that follows the text that the template gives when it asks for an answer,
up to the stop token. So what a template puts around an answer (a space, an empty block of
thoughts) is learned as it will be written.

The state from which an answer begins must be one that decoding reaches: the tokens of the prompt
alone. Where a token of the joint text would straddle the border, prompt and rest are tokenised
apart; where the joint text does not even begin with the prompt, the row is refused. No text of a
person is ever read as a special token: a row that spells one is put together turn by turn.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from seqmatch.encoding import (
    special_ids,
    special_names,
    template_ids,
    templates_ids,
    text_ids,
)
from seqmatch.errors import DemonstrationError, ModelLoadError
from seqmatch.types import Message

_MARK = "\ue000turn{}\ue001"
"""Stands for the text of a turn; of characters that no text has."""


@dataclass(frozen=True)
class Framing:
    """What a chat template puts around an answer."""

    opening: str
    """Between the prompt and the answer, as text without special tokens; mostly empty."""
    closing: str
    """Between the answer and its stop token, likewise."""
    after: str
    """All that the template writes after an answer."""
    stop: int | None
    """The special token that ends an answer; None where the template has none."""


def framing(tokenizer: Any) -> Framing:
    """Returns what the tokenizer's chat template puts around an answer.

    Raises:
        ModelLoadError: The template refuses a user's turn with an answer.
    """
    return _framing(tokenizer, str(tokenizer.chat_template))


def chat_prompt_ids(tokenizer: Any, turns: Sequence[Message]) -> list[int]:
    """Returns the template's tokens up to where the answer begins.

    Raises:
        DemonstrationError: The template refuses these turns.
    """
    if not _spells(_pattern(tokenizer), turns):
        return template_ids(tokenizer, rendered(tokenizer, turns))
    return _pieced(tokenizer, rendered(tokenizer, _marked(turns)), turns)


def chat_rows(
    tokenizer: Any,
    conversations: Sequence[tuple[tuple[Message, ...], str]],
    stop: int,
    names: Sequence[str],
) -> list[tuple[list[int], list[int]]]:
    """Returns the tokens of prompt and answer of each conversation, the stop token included.

    Args:
        tokenizer: One with a chat template.
        conversations: The turns before each answer, and the answer.
        stop: The stop token.
        names: What to call each conversation in a message.

    Raises:
        DemonstrationError: The template refuses the turns, leaves the answer out, or writes the
            answered conversation with another beginning than the prompt.
    """
    frame, pattern = framing(tokenizer), _pattern(tokenizer)
    found: list[tuple[list[int], list[int]] | None] = []
    plain: list[int] = []
    texts: list[tuple[str, str]] = []
    for at, (turns, answer) in enumerate(conversations):
        whole = (*turns, Message("assistant", answer))
        try:
            if _spells(pattern, whole):
                found.append(_pieced_row(tokenizer, whole, stop))
                continue
            found.append(None)
            plain.append(at)
            texts.append(_prompt_and_rest(tokenizer, whole))
        except DemonstrationError as error:
            raise DemonstrationError(f"{names[at]}: {error}") from error
    tail = frame.after if frame.stop is None else ""
    texts = [(before, rest.removesuffix(tail)) for before, rest in texts]
    prompts = templates_ids(tokenizer, [before for before, _ in texts])
    joint = templates_ids(tokenizer, [before + rest for before, rest in texts])
    for at, (_, rest), prompt, ids in zip(plain, texts, prompts, joint, strict=True):
        is_reached = ids[: len(prompt)] == prompt
        completion = ids[len(prompt) :] if is_reached else template_ids(tokenizer, rest)
        found[at] = prompt, _ended(completion, stop)
    return [row for row in found if row is not None]


def rendered(tokenizer: Any, turns: Sequence[Message], *, asks: bool = True) -> str:
    """Returns the text that the template makes of turns.

    Args:
        tokenizer: One with a chat template.
        turns: The turns.
        asks: Whether the text ends where an answer begins.

    Raises:
        DemonstrationError: The template refuses these turns.
    """
    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=asks)
    except (TemplateError, ValueError, TypeError) as error:
        raise DemonstrationError(
            f"the model's chat template refuses these turns: {error}"
        ) from error
    return text


@lru_cache(maxsize=8)
def _framing(tokenizer: Any, _template: str) -> Framing:
    """Cached by the tokenizer itself and its template: every row and every answer needs it."""
    mark = _MARK.format("")
    turns = (Message("user", "?"), Message("assistant", mark))
    try:
        before, whole = rendered(tokenizer, turns[:1]), rendered(tokenizer, turns, asks=False)
    except DemonstrationError as error:
        raise ModelLoadError(str(error)) from error
    opening, _, after = whole.removeprefix(before).partition(mark)
    if not whole.startswith(before):
        opening = ""  # rows are refused; answers of stored policies are still shown
    ids, special = template_ids(tokenizer, after), special_ids(tokenizer)
    stop = next((at for at, token in enumerate(ids) if token in special), None)
    if stop is not None and _shown(tokenizer, ids[:stop]).strip():
        stop = None  # words follow the answer: the special token ends something else
    return Framing(
        opening=_shown(tokenizer, template_ids(tokenizer, opening)),
        closing="" if stop is None else _shown(tokenizer, ids[:stop]),
        after=after,
        stop=None if stop is None else ids[stop],
    )


def _prompt_and_rest(tokenizer: Any, whole: Sequence[Message]) -> tuple[str, str]:
    """The text of the prompt, and what the answered conversation has after it."""
    before, text = rendered(tokenizer, whole[:-1]), rendered(tokenizer, whole, asks=False)
    if not text.startswith(before):
        same = next(
            (at for at, (one, two) in enumerate(zip(before, text, strict=False)) if one != two),
            min(len(before), len(text)),
        )
        raise DemonstrationError(
            "the model's chat template writes an answered conversation differently from the "
            f"prompt that it asks for an answer with: {before[same : same + 24]!r} in the prompt, "
            f"{text[same : same + 24]!r} with the answer. A policy trained on one would never "
            "meet the other; use a model whose template keeps the prompt, or change the template"
        )
    return before, text[len(before) :]


def _pieced_row(tokenizer: Any, whole: Sequence[Message], stop: int) -> tuple[list[int], list[int]]:
    """A conversation that spells a special token: each turn is tokenised on its own."""
    _, rest = _prompt_and_rest(tokenizer, _marked(whole))
    mark = _MARK.format(len(whole) - 1)
    if mark not in rest:
        raise DemonstrationError("the model's chat template leaves the answer out")
    opening, _, after = rest.partition(mark)
    completion = template_ids(tokenizer, opening) + text_ids(tokenizer, whole[-1].content)
    if framing(tokenizer).stop is not None:
        completion += template_ids(tokenizer, after)
    return chat_prompt_ids(tokenizer, whole[:-1]), _ended(completion, stop)


def _pieced(tokenizer: Any, text: str, turns: Sequence[Message]) -> list[int]:
    """The tokens of a text with marks in the place of turns."""
    ids: list[int] = []
    for at, turn in enumerate(turns):
        mark = _MARK.format(at)
        if mark not in text:
            continue  # the template leaves this turn out
        before, text = text.split(mark, 1)
        ids += template_ids(tokenizer, before) + text_ids(tokenizer, turn.content)
    return ids + template_ids(tokenizer, text)


def _ended(completion: list[int], stop: int) -> list[int]:
    """Up to the first stop token, which is put there where the template has none."""
    return [*(completion[: completion.index(stop)] if stop in completion else completion), stop]


def _marked(turns: Sequence[Message]) -> tuple[Message, ...]:
    return tuple(Message(turn.role, _MARK.format(at)) for at, turn in enumerate(turns))


def _pattern(tokenizer: Any) -> re.Pattern[str]:
    """Matches the name of any special token; nothing where there is none."""
    names = sorted(special_names(tokenizer), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _spells(pattern: re.Pattern[str], turns: Sequence[Message]) -> bool:
    return any(pattern.search(turn.content) for turn in turns)


def _shown(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text
