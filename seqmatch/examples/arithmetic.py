"""Three-digit addition: prompt "123+456=", answer "579". Made from a seed, so there is no file."""

import numpy as np

from seqmatch.ingest.conversion import group_of
from seqmatch.seeding import child_seed
from seqmatch.types import Demonstration

NUM_TRAIN = 5_000
NUM_HELDOUT = 500
_SMALLEST, _LARGEST = 100, 999


def generate(seed: int = 0) -> list[Demonstration]:
    """Returns 5,500 additions of two numbers from 100 to 999.

    Each unordered pair of numbers occurs at most once, so that a held-out sum is not one of the
    training sums with its numbers swapped. A held-out share of `NUM_HELDOUT` in all of them makes
    5,000 training rows and 500 held-out ones.
    """
    span = _LARGEST - _SMALLEST + 1
    order = np.random.default_rng(child_seed(seed, "arithmetic")).permutation(span * span)
    rows: list[Demonstration] = []
    seen: set[tuple[int, int]] = set()
    for code in order.tolist():
        first, second = _SMALLEST + code // span, _SMALLEST + code % span
        pair = (min(first, second), max(first, second))
        if pair in seen:
            continue
        seen.add(pair)
        prompt = f"{first}+{second}="
        rows.append(Demonstration(prompt, str(first + second), group_of(prompt), "arithmetic"))
        if len(rows) == NUM_TRAIN + NUM_HELDOUT:
            break
    return rows
