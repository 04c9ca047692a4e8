"""Ending an answer at a text, whatever tokens it is made of."""

from collections.abc import Sequence
from typing import Any

_MORE = 4
"""Tokens that are decoded beside those that must hold the text."""


def has_stop_string(tokenizer: Any, tokens: Sequence[int], stops: Sequence[str]) -> bool:
    """Tells whether one of some texts is complete with the last token.

    Only the end is decoded that may hold a text: each token adds at least one byte to it, but for
    special ones, and a few more are read since some decoders treat the first token differently. It
    is asked after every token, so a text that stood before has ended the answer already.

    Args:
        tokenizer: Of transformers.
        tokens: The tokens that stand.
        stops: The texts, none of them empty.
    """
    if not stops:
        return False
    count = max(len(stop.encode()) for stop in stops) + _MORE
    end: str = tokenizer.decode(
        list(tokens[-count:]), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return any(stop in end for stop in stops)
