"""The law of whole answers and loss minimisers of one state, by definition (numpy only)."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

State = tuple[int, ...]
Array = npt.NDArray[np.float64]


def law_of_answers(
    probabilities: Callable[[State], Array], vocab: int, max_length: int
) -> dict[State, float]:
    """The product of token probabilities along every answer; the last token is forced to stop."""
    law: dict[State, float] = {}

    def descend(state: State, mass: float) -> None:
        if state and state[-1] == 0:
            law[state] = law.get(state, 0.0) + mass
        elif len(state) == max_length - 1:
            descend((*state, 0), mass)
        else:
            for token in range(vocab):
                descend((*state, token), mass * float(probabilities(state)[token]))

    descend((), 1.0)
    return law


def tempered(p: Array, power: float) -> Array:
    """p^power, normalised."""
    return np.asarray(p**power / np.sum(p**power))


def chi_square_bandit(p: Array, alpha: float) -> Array:
    """p (1 - alpha l / 2) where it is the softmax of l: sum p l = 0 fixes the offset."""
    logits = np.log(p)
    for _ in range(10_000):
        wanted = p * (1 - alpha * logits / 2)
        logits = logits + 0.1 * (np.log(wanted) - (logits - np.logaddexp.reduce(logits)))
        logits = logits - np.sum(p * logits)
    return np.asarray(np.exp(logits - np.logaddexp.reduce(logits)))
