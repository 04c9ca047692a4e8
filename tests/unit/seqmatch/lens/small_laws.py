"""Laws of short answers over a vocabulary of eleven tokens, the last one the stop token."""

import numpy as np

from seqmatch.lens import Answer, Eyes
from tests.tiny_models import policy_of, tiny_llama

STOP = 10
NUM_ANSWERS = 64
FOLDS = [row % 2 for row in range(NUM_ANSWERS)]


def small_eyes() -> Eyes:
    """A random model of width 32 without backspace."""
    return Eyes.from_policy(policy_of(tiny_llama(), backspace=False))


def prompt(row: int) -> tuple[int, ...]:
    return (row // 8, row % 8)


def answer(row: int, tokens: tuple[int, ...]) -> Answer:
    return Answer(prompt(row), (*tokens, STOP), True, "x" * len(tokens))


def two_letters(rng: np.random.Generator, share_of_ones: float) -> list[Answer]:
    """Two independent letters, 1 with the given probability and 2 otherwise, then the stop."""
    letters = np.where(rng.random((NUM_ANSWERS, 2)) < share_of_ones, 1, 2)
    return [answer(row, tuple(letters[row].tolist())) for row in range(NUM_ANSWERS)]
