"""Texts to token ids, many at a time: what people wrote, and what a chat template wrote."""

from collections.abc import Sequence
from typing import Any


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the tokens of text written by a person: no special tokens, whatever it says."""
    return texts_ids(tokenizer, [text])[0]


def texts_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Returns `text_ids` of each text."""
    return _encoded(tokenizer, texts, split_special_tokens=True)


def template_ids(tokenizer: Any, text: str) -> list[int]:
    """Returns the tokens of text written by a template: names of special tokens are these."""
    return templates_ids(tokenizer, [text])[0]


def templates_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Returns `template_ids` of each text."""
    return _encoded(tokenizer, texts, split_special_tokens=False)


def special_names(tokenizer: Any) -> set[str]:
    """Returns what special tokens look like in text."""
    return {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}


def special_ids(tokenizer: Any) -> set[int]:
    """Returns the special tokens."""
    added = {key for key, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _encoded(
    tokenizer: Any, texts: Sequence[str], *, split_special_tokens: bool
) -> list[list[int]]:
    if not texts:
        return []
    found = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=split_special_tokens,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    ids: list[list[int]] = found["input_ids"]
    return ids
