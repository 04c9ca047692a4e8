"""What happens to demonstrations before training: the split, the limit on length, the last checks.

Rows of one group (the same prompt, the same conversation) always stay on one side of the split.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from seqmatch.corruption import cut_demonstration
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


def fit_to_limit(
    tokenized: Sequence[TokenizedDemonstration],
    max_tokens: int,
    too_long: Literal["drop", "cut", "stop"],
) -> list[TokenizedDemonstration]:
    """Applies the limit on prompt and answer together, the stop token included.

    Args:
        tokenized: The rows.
        max_tokens: The limit, in tokens.
        too_long: What happens to a row over it. "drop" leaves it out. "cut" keeps the answer's
            tokens up to the limit, so that the last one is a label and the stop is forced there
            (see `corruption.clean_trajectory`); where the prompt leaves no room for an answer
            token, the row is left out. "stop" refuses all.

    Returns:
        The rows that stay, in their order; perhaps none.

    Raises:
        DemonstrationError: "stop" and a row is over the limit.
    """
    over = [row for row in tokenized if num_tokens(row) > max_tokens]
    if over and too_long == "stop":
        raise DemonstrationError(
            f"{len(over)} of {len(tokenized)} rows are longer than {max_tokens} tokens, the first "
            f"is row {over[0].index + 1} with {num_tokens(over[0])}; raise the limit, or choose to "
            "drop or to cut them"
        )
    fitted = []
    for row in tokenized:
        if num_tokens(row) <= max_tokens:
            fitted.append(row)
        elif too_long == "cut" and len(row.prompt_ids) < max_tokens:
            fitted.append(cut_demonstration(row, max_tokens))
    return fitted


def check_trainable(tokenized: Sequence[TokenizedDemonstration], stop_id: int) -> None:
    """Refuses rows from which nothing can be learned, or never how to stop.

    Args:
        tokenized: The rows that will be trained on, cut already.
        stop_id: The stop token.

    Raises:
        DemonstrationError: there is no row; a row has no answer token but the stop token (the
            first three are named); or no row ends with the stop token.
    """
    if not tokenized:
        raise DemonstrationError(
            "there is no row to train on within the limit on tokens; at least one is needed"
        )
    silent = [row.index + 1 for row in tokenized if not is_supervised(row, stop_id)]
    if silent:
        shown = ", ".join(map(str, silent[:3])) + (", ..." if len(silent) > 3 else "")
        raise DemonstrationError(
            f"{len(silent)} of {len(tokenized)} rows have no supervised token (rows {shown}): the "
            "model's tokenizer makes nothing of their answers. Take them out of the demonstrations"
        )
    if not any(trains_stop(row, stop_id) for row in tokenized):
        raise DemonstrationError(
            f"the stop token is never trained: all {len(tokenized)} answers are cut before their "
            "end, so the model would never learn to stop. Raise the limit on tokens"
        )


def is_supervised(row: TokenizedDemonstration, stop_id: int) -> bool:
    """Says whether the answer of a row has a token to learn besides the stop token."""
    return any(token != stop_id for token in row.completion_ids)


def trains_stop(row: TokenizedDemonstration, stop_id: int) -> bool:
    """Says whether the stop token is among the labels of a row."""
    return row.completion_ids[-1:] == (stop_id,)


def num_tokens(row: TokenizedDemonstration) -> int:
    """Returns the length of prompt and answer together, the stop token included."""
    return len(row.prompt_ids) + len(row.completion_ids)
