"""From text to tokens and back, the same way for training and for answering.

Prompt and answer are tokenised apart, so the prompt's tokens in training are those in answering.
The text of users is never read as special tokens: a demonstration that contains "<|im_end|>" as
text gets the tokens of these ten characters.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from seqmatch.errors import DemonstrationError, ModelLoadError
from seqmatch.types import Demonstration, Message, TokenizedDemonstration

Prompt = str | tuple[Message, ...]
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
    if getattr(tokenizer, "chat_template", None):
        turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
        ids = _chat_ids(tokenizer, turns)
    else:
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ids = start + text_ids(tokenizer, plain_prompt(prompt))
    if not ids and tokenizer.eos_token_id is not None:
        ids = [tokenizer.eos_token_id]  # GPT-2's habit: its one special token begins a text too
    if not ids:
        raise DemonstrationError("the prompt is empty and the tokenizer has no token to begin with")
    return tuple(ids)


def tokenize_demonstration(
    tokenizer: Any, demonstration: Demonstration, index: int
) -> TokenizedDemonstration:
    """Returns the demonstration as tokens; the answer ends with the stop token."""
    completion = text_ids(tokenizer, demonstration.completion)
    return TokenizedDemonstration(
        prompt_ids=render_prompt(tokenizer, demonstration.prompt),
        completion_ids=(*completion, stop_id(tokenizer)),
        index=index,
    )


def prompt_text(prompt: Prompt) -> str:
    """Returns a prompt as people read it: the text, or one line "role: text" for each turn."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{turn.role}: {turn.content}" for turn in prompt)


def plain_prompt(prompt: Prompt) -> str:
    """Returns a prompt as models without a chat template read it, up to where the answer begins."""
    return prompt if isinstance(prompt, str) else prompt_text(prompt) + "\nassistant: "


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the tokens of text written by a person: no special tokens, whatever it says."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return ids


def stop_id(tokenizer: Any) -> int:
    """Returns the token that ends an answer.

    With a chat template it is the special token that the template puts after an assistant turn,
    which for some base models is not the end-of-sequence token.

    Raises:
        ModelLoadError: There is no such token.
    """
    if getattr(tokenizer, "chat_template", None):
        mark = "\ue000answer\ue001"
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": mark}]
        rendered = tokenizer.apply_chat_template(turns, tokenize=False)
        after = _template_ids(tokenizer, rendered.partition(mark)[2].strip())
        if after and after[0] in _special_ids(tokenizer):
            return after[0]
    if tokenizer.eos_token_id is None:
        raise ModelLoadError("the tokenizer has no end-of-sequence token, so no answer could end")
    return int(tokenizer.eos_token_id)


def answer_text(tokenizer: Any, ids: Sequence[int]) -> str:
    """Returns the text of an answer, special tokens left out."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


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


def _chat_ids(tokenizer: Any, turns: tuple[Message, ...]) -> list[int]:
    """The template's tokens; a turn that spells a special token is tokenised on its own."""
    names = _special_names(tokenizer)
    hostile = [any(name in turn.content for name in names) for turn in turns]
    if not any(hostile):
        return _template_ids(tokenizer, _rendered(tokenizer, turns))
    marks = [f"\ue000turn{at}\ue001" for at in range(len(turns))]
    marked = tuple(Message(turn.role, mark) for turn, mark in zip(turns, marks, strict=True))
    rest = _rendered(tokenizer, marked)
    ids: list[int] = []
    for turn, mark in zip(turns, marks, strict=True):
        if mark not in rest:
            continue  # the template leaves this turn out
        before, rest = rest.split(mark, 1)
        ids += _template_ids(tokenizer, before) + text_ids(tokenizer, turn.content)
    return ids + _template_ids(tokenizer, rest)


def _rendered(tokenizer: Any, turns: tuple[Message, ...]) -> str:
    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError) as error:
        raise DemonstrationError(
            f"the model's chat template refuses these turns: {error}"
        ) from error
    return text


def _template_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _special_names(tokenizer: Any) -> set[str]:
    return {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}


def _special_ids(tokenizer: Any) -> set[int]:
    added = {key for key, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)
