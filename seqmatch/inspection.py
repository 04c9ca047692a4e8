"""What a model makes of demonstrations: one row token by token, and the lengths of all rows.

The token view is made from the very trajectory that training would draw, so what it shows is what
is trained. It needs a tokenizer and the action space, never the model's weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from seqmatch.action_space import ActionSpace
from seqmatch.corruption import clean_trajectory, corrupt
from seqmatch.demonstrations import (
    check_trainable,
    fit_to_limit,
    is_supervised,
    num_tokens,
    trains_stop,
)
from seqmatch.encoding import text_ids
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.objectives import ObjectiveConfig
from seqmatch.seeding import child_seed
from seqmatch.text import (
    piece_after,
    stop_id,
    tokenize_demonstration,
    tokenize_demonstrations,
)
from seqmatch.types import Demonstration, Trajectory

TokenPart = Literal["prompt", "answer", "noise", "backspace", "stop"]
BACKSPACE_TEXT = "⌫"
_MOST_BINS = 24


@dataclass(frozen=True)
class TokenCell:
    """One position of a row: a prompt token, or an action."""

    text: str
    """What the token adds to the text; of a special token its name."""
    id: int
    part: TokenPart
    is_supervised: bool
    """Whether the policy learns `label_text` here: at every action, also where a mistake was pushed
    instead of it. False in the prompt, and at a stop that a limit forced: stopping is not learned
    there, only the token that would have come."""
    label_text: str = ""
    """What the policy is asked for here; empty in the prompt."""


@dataclass(frozen=True)
class TokenView:
    """The positions of one row, in order."""

    tokens: tuple[TokenCell, ...]


def token_view(
    tokenizer: Any,
    space: ActionSpace,
    demonstration: Demonstration,
    objective: ObjectiveConfig,
    *,
    max_tokens: int,
    seed: int,
    index: int = 0,
) -> TokenView:
    """Shows a demonstration as the policy would see it in training.

    Args:
        tokenizer: The base model's.
        space: The policy's actions; mistakes are inserted where it has backspace.
        demonstration: The row.
        objective: Gives the rate and the alphabet of the mistakes.
        max_tokens: A longer row is cut there.
        seed: Which mistakes are drawn.
        index: The row's number, for messages.

    Raises:
        DemonstrationError: the prompt leaves no room for an answer within `max_tokens`.
        ConfigError: the noise tokens cannot be pushed, or are the policy's own mistakes, which
            no tokenizer can show.
    """
    row = tokenize_demonstration(tokenizer, demonstration, index)
    fitted = fit_to_limit([row], max_tokens, "cut")
    if not fitted:
        raise DemonstrationError(
            f"row {index + 1}: the prompt has {len(row.prompt_ids)} tokens and leaves no room for "
            f"an answer within {max_tokens}"
        )
    if not space.has_backspace:
        return TokenView(_cells(tokenizer, clean_trajectory(fitted[0], space), space))
    noise = objective.corruption
    if noise.alphabet == "model_top_k":
        raise ConfigError(
            "with noise tokens 'model_top_k' the mistakes are those that the policy finds "
            "likeliest at each step of its training; this view has its tokenizer only and would "
            "have to make them up. 'vocabulary' and 'token_set' can be shown"
        )
    noise_ids = None
    if noise.alphabet == "token_set":
        noise_ids = tuple(dict.fromkeys(text_ids(tokenizer, noise.token_set)))
    rng = np.random.default_rng(child_seed(seed, "token view", index))
    trajectory = corrupt(fitted[0], space, noise, noise_ids, rng, max_tokens)
    return TokenView(_cells(tokenizer, trajectory, space))


@dataclass(frozen=True)
class LengthSummary:
    """Lengths of prompt and answer together, in tokens, the stop token included."""

    bins: tuple[tuple[int, int, int], ...]
    """(first length, last length, number of rows), in order, without gaps."""
    num_rows: int
    num_too_long: int
    num_unsupervised: int
    """Rows without a supervised token."""
    num_stop_trained: int
    """Rows whose stop token is trained when rows over the limit are cut."""
    refusal: str
    """Why these rows cannot be trained on, cut at the limit; empty where they can."""


def length_summary(
    tokenizer: Any, demonstrations: Sequence[Demonstration], max_tokens: int
) -> LengthSummary:
    """Measures all rows as this tokenizer sees them.

    Args:
        tokenizer: The base model's.
        demonstrations: The rows.
        max_tokens: The limit that rows are compared with.
    """
    stop = stop_id(tokenizer)
    rows = tokenize_demonstrations(tokenizer, demonstrations, range(len(demonstrations)))
    lengths = [num_tokens(row) for row in rows]
    fitted = fit_to_limit(rows, max_tokens, "cut")
    refusal = ""
    try:
        check_trainable(fitted, stop)
    except DemonstrationError as error:
        refusal = str(error)
    return LengthSummary(
        bins=length_bins(lengths),
        num_rows=len(rows),
        num_too_long=sum(length > max_tokens for length in lengths),
        num_unsupervised=sum(not is_supervised(row, stop) for row in rows),
        num_stop_trained=sum(trains_stop(row, stop) for row in fitted),
        refusal=refusal,
    )


def length_bins(lengths: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Counts lengths in bins of one width: the smallest of 1, 2, 5, 10, ... that needs at most 24.

    A bin starts at a multiple of its width; (first, last, count) with both ends included.
    """
    if not lengths:
        return ()
    width, low, high = 1, min(lengths), max(lengths)
    steps = iter(scale * step for scale in (10**power for power in range(10)) for step in (1, 2, 5))
    while high // width - low // width >= _MOST_BINS:
        width = next(step for step in steps if step > width)
    counts = dict.fromkeys(range(low // width, high // width + 1), 0)
    for length in lengths:
        counts[length // width] += 1
    return tuple((at * width, (at + 1) * width - 1, count) for at, count in counts.items())


def _cells(tokenizer: Any, trajectory: Trajectory, space: ActionSpace) -> tuple[TokenCell, ...]:
    prompt = trajectory.prompt_ids
    cells = [
        TokenCell(piece_after(tokenizer, prompt[:at], token), token, "prompt", False)
        for at, token in enumerate(prompt)
    ]
    standing = list(prompt)
    for label, push in zip(trajectory.labels, trajectory.pushes, strict=True):
        is_pop = push == space.backspace_id
        text = BACKSPACE_TEXT if is_pop else piece_after(tokenizer, standing, push)
        label_text = (
            BACKSPACE_TEXT
            if label == space.backspace_id
            else piece_after(tokenizer, standing, label)
        )
        part = _part(label, push, space)
        is_learned = part != "stop" or push == label
        cells.append(TokenCell(text, push, part, is_learned, label_text))
        if is_pop:
            standing.pop()
        else:
            standing.append(push)
    return tuple(cells)


def _part(label: int, push: int, space: ActionSpace) -> TokenPart:
    if push == space.backspace_id:
        return "backspace"
    if push == space.eos_id:
        return "stop"
    return "answer" if push == label else "noise"
