"""From text to tokens and back, the same way for training and for answering.

The tokens of a prompt in training are those in answering. Without a chat template prompt and answer
are tokenised apart; with one the answered conversation is tokenised as a whole (`chat_turns`). The
text of users is never read as special tokens: a demonstration that contains "<|im_end|>" as text
gets the tokens of these ten characters.
"""

from collections.abc import Sequence
from typing import Any

from seqmatch.chat_turns import chat_prompt_ids, chat_rows, framing
from seqmatch.encoding import text_ids, texts_ids
from seqmatch.errors import DemonstrationError, ModelLoadError
from seqmatch.types import Demonstration, Message, TokenizedDemonstration

Prompt = str | tuple[Message, ...]
_AT_ONCE = 512
"""Rows tokenised in one call: enough for a fast tokenizer, little memory."""
_CONTEXT = 8
"""Tokens looked back at to know what a token adds to the text: with at most 4 bytes a character
even the last 8 bytes hold a complete one, wherever they begin."""
_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


def render_prompt(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Returns the tokens of a prompt, up to where the answer begins.

    With a chat template a plain text becomes one user turn. Without one a plain text stands as it
    is and turns become lines "role: text"; the beginning-of-sequence token goes first where the
    tokenizer has one.

    Raises:
        DemonstrationError: The chat template refuses these turns, or there is no token at all.
    """
    if _has_template(tokenizer):
        return _begun(tokenizer, chat_prompt_ids(tokenizer, _turns(prompt)))
    return _begun(tokenizer, _first(tokenizer) + text_ids(tokenizer, plain_prompt(prompt)))


def tokenize_demonstration(
    tokenizer: Any, demonstration: Demonstration, index: int
) -> TokenizedDemonstration:
    """Returns the demonstration as tokens; the answer ends with the stop token.

    Raises:
        DemonstrationError: As `tokenize_demonstrations`.
    """
    return tokenize_demonstrations(tokenizer, [demonstration], [index])[0]


def tokenize_demonstrations(
    tokenizer: Any, demonstrations: Sequence[Demonstration], indices: Sequence[int]
) -> list[TokenizedDemonstration]:
    """Returns demonstrations as tokens, many at a time; each answer ends with the stop token.

    Args:
        tokenizer: The policy's.
        demonstrations: The rows.
        indices: The number of each row in its set.

    Raises:
        DemonstrationError: The chat template refuses a row's turns, or writes the answered
            conversation with another beginning than the prompt (`chat_turns`); or a prompt is
            empty and there is no token to begin with. The row is named.
        ModelLoadError: There is no stop token.
    """
    stop = stop_id(tokenizer)
    rows: list[TokenizedDemonstration] = []
    for start in range(0, len(demonstrations), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        some, numbers = demonstrations[part], indices[part]
        found = _rows(tokenizer, some, numbers, stop)
        rows += [
            TokenizedDemonstration(_begun(tokenizer, prompt), tuple(completion), index)
            for (prompt, completion), index in zip(found, numbers, strict=True)
        ]
    return rows


def prompt_text(prompt: Prompt) -> str:
    """Returns a prompt as people read it: the text, or one line "role: text" for each turn."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def plain_prompt(prompt: Prompt) -> str:
    """Returns a prompt as models without a chat template read it, up to where the answer begins."""
    return prompt if isinstance(prompt, str) else prompt_text(prompt) + "\nassistant: "


def stop_id(tokenizer: Any) -> int:
    """Returns the token that ends an answer.

    With a chat template it is the special token that the template puts after an assistant turn,
    which for some base models is not the end-of-sequence token.

    Raises:
        ModelLoadError: There is no such token.
    """
    if _has_template(tokenizer) and (stop := framing(tokenizer).stop) is not None:
        return stop
    if tokenizer.eos_token_id is None:
        raise ModelLoadError("the tokenizer has no end-of-sequence token, so no answer could end")
    return int(tokenizer.eos_token_id)


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Returns the text of an answer, without special tokens.

    What the chat template puts around every answer (an empty block of thoughts, a space) is left
    out too, so that the text is comparable with a demonstration's.
    """
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    if not _has_template(tokenizer):
        return text
    frame = framing(tokenizer)
    text = text.removeprefix(frame.opening)
    return text.removesuffix(frame.closing) if frame.stop in ids[-1:] else text


def piece_after(tokenizer: Any, context: Sequence[int], token: int) -> str:
    """Returns what `token` adds to the text of `context`.

    A character whose bytes are spread over several tokens is added by the last of them; the others
    add nothing. Special tokens show their name.
    """
    before = list(context[-_CONTEXT:])
    old = _shown(tokenizer, before).rstrip(_INCOMPLETE)
    new = _shown(tokenizer, [*before, token])
    complete = new.rstrip(_INCOMPLETE)
    return complete[len(old) :] if complete.startswith(old) else new


def decode_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Returns what each token adds to the text; the pieces joined are the text."""
    return [piece_after(tokenizer, ids[:at], token) for at, token in enumerate(ids)]


def _shown(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _rows(
    tokenizer: Any, demonstrations: Sequence[Demonstration], indices: Sequence[int], stop: int
) -> list[tuple[list[int], list[int]]]:
    """The tokens of each prompt and of each answer."""
    if _has_template(tokenizer):
        conversations = [(_turns(each.prompt), each.completion) for each in demonstrations]
        names = [f"row {index + 1}" for index in indices]
        return chat_rows(tokenizer, conversations, stop, names)
    first = _first(tokenizer)
    prompts = texts_ids(tokenizer, [plain_prompt(each.prompt) for each in demonstrations])
    completions = texts_ids(tokenizer, [each.completion for each in demonstrations])
    return [
        (first + prompt, [*completion, stop])
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def _has_template(tokenizer: Any) -> bool:
    return bool(getattr(tokenizer, "chat_template", None))


def _turns(prompt: Prompt) -> tuple[Message, ...]:
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def _first(tokenizer: Any) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _begun(tokenizer: Any, ids: list[int]) -> tuple[int, ...]:
    """The prompt's tokens, at least one."""
    if not ids and tokenizer.eos_token_id is not None:
        return (tokenizer.eos_token_id,)  # GPT-2's habit: its one special token begins a text too
    if not ids:
        raise DemonstrationError("the prompt is empty and the tokenizer has no token to begin with")
    return tuple(ids)
