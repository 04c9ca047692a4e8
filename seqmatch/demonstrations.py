"""What happens to demonstrations before training: the split, the limit on length, the last checks.

Rows of one group (the same prompt, the same conversation) always stay on one side of the split.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.seeding import child_seed
from seqmatch.types import Demonstration, TokenizedDemonstration


def split(
    demonstrations: Sequence[Demonstration], heldout_fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Splits demonstrations by group into training and held-out rows.

    The groups are put in an order that depends on the seed and their names alone; they are held
    out in this order while they fit into round(`heldout_fraction` * number of rows), at least one
    row. Where not one group fits, the smallest is held out.

    Args:
        demonstrations: At least two groups.
        heldout_fraction: Share of rows to hold out, above 0 and below 1.
        seed: Which groups are held out.

    Returns:
        The indices of training rows and of held-out rows, each ascending; together all rows.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DemonstrationError: there are fewer than two groups.
    """
    if not 0.0 < heldout_fraction < 1.0:
        raise ConfigError(f"held-out share {heldout_fraction}; allowed is above 0 and below 1")
    sizes = Counter(demonstration.group for demonstration in demonstrations)
    if len(sizes) < 2:
        raise DemonstrationError(
            f"the {len(demonstrations)} demonstrations have {len(sizes)} different prompts; at "
            "least 2 are needed to hold one out"
        )
    names = sorted(sizes)
    order = [
        names[at] for at in np.random.default_rng(child_seed(seed, "split")).permutation(len(names))
    ]
    room = max(1, round(heldout_fraction * len(demonstrations)))
    held: set[str] = set()
    for name in order:
        if sizes[name] <= room and len(held) < len(names) - 1:
            held.add(name)
            room -= sizes[name]
    if not held:
        held.add(min(order, key=lambda name: sizes[name]))
    is_held = [demonstration.group in held for demonstration in demonstrations]
    return (
        [index for index, out in enumerate(is_held) if not out],
        [index for index, out in enumerate(is_held) if out],
    )


@dataclass(frozen=True)
class FittedRows:
    """Rows that may be trained on, and what became of the others."""

    rows: tuple[TokenizedDemonstration, ...]
    """In their order. With "cut", rows over the limit are among them, whole: their trajectory is
    cut by `corruption.cut_to`, which needs the true next token."""
    num_dropped: int
    num_cut: int


def fit_to_limit(
    tokenized: Sequence[TokenizedDemonstration],
    max_tokens: int,
    too_long: Literal["drop", "cut", "stop"],
) -> FittedRows:
    """Applies the limit on prompt and answer together, the stop token included.

    Args:
        tokenized: The rows.
        max_tokens: The limit, in tokens.
        too_long: What happens to a row over it: left out, cut, or no training at all.

    Returns:
        The rows that stay, and how many were dropped and how many are to be cut. With "cut" a row
        whose prompt leaves no room for an answer token is dropped.

    Raises:
        DemonstrationError: "stop" and a row is too long (W230); or no row stays.
    """
    over = [row for row in tokenized if _length(row) > max_tokens]
    if over and too_long == "stop":
        raise DemonstrationError(
            f"{len(over)} of {len(tokenized)} rows are longer than {max_tokens} tokens, the first "
            f"is row {over[0].index + 1} with {_length(over[0])}; raise the limit, or choose to "
            "drop or to cut them"
        )
    rows = tuple(
        row
        for row in tokenized
        if _length(row) <= max_tokens or (too_long == "cut" and len(row.prompt_ids) < max_tokens)
    )
    if not rows:
        shortest = min(map(_length, tokenized), default=0)
        raise DemonstrationError(
            f"none of the {len(tokenized)} rows fits into {max_tokens} tokens; the shortest has "
            f"{shortest}"
        )
    num_cut = sum(_length(row) > max_tokens for row in rows)
    return FittedRows(rows, num_dropped=len(tokenized) - len(rows), num_cut=num_cut)


def check_trainable(
    tokenized: Sequence[TokenizedDemonstration], stop_id: int, max_tokens: int | None = None
) -> None:
    """Refuses rows from which nothing can be learned, or never how to stop.

    Args:
        tokenized: The rows that will be trained on.
        stop_id: The stop token.
        max_tokens: Where answers are cut; None does not cut.

    Raises:
        DemonstrationError: a row has no answer token but the stop token (it names up to three
            rows); there is no row; or no row that is trained on ends with the stop token.
    """
    if not tokenized:
        raise DemonstrationError("there is no row to train on; at least one is needed")
    silent = [row.index + 1 for row in tokenized if not set(row.completion_ids) - {stop_id}]
    if silent:
        shown = ", ".join(map(str, silent[:3]))
        raise DemonstrationError(
            f"{len(silent)} of {len(tokenized)} rows have no supervised token (rows {shown}"
            f"{', ...' if len(silent) > 3 else ''}): the model's tokenizer makes nothing of their "
            "answers. Remove them from the demonstrations"
        )
    if not any(trains_stop(row, stop_id, max_tokens) for row in tokenized):
        raise DemonstrationError(
            f"the stop token is never trained: all {len(tokenized)} answers are cut before their "
            "end, so the model would never learn to stop. Raise the limit on tokens"
        )


def trains_stop(row: TokenizedDemonstration, stop_id: int, max_tokens: int | None = None) -> bool:
    """Says whether the stop token is among the labels of a row, cut at `max_tokens`."""
    is_whole = max_tokens is None or _length(row) <= max_tokens
    return is_whole and row.completion_ids[-1:] == (stop_id,)


def _length(row: TokenizedDemonstration) -> int:
    return len(row.prompt_ids) + len(row.completion_ids)
