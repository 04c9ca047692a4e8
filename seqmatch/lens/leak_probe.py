"""The leak probe: how well length, stop token and white space alone tell answers apart.

A discriminator that wins by these has not looked at what the answers say. Boosted trees, since a
leak need not be monotone: rollouts may be both too short and too long.
"""

from collections.abc import Sequence
from importlib import import_module

import numpy as np
from jaxtyping import Float

from seqmatch.lens.answers import Answer
from seqmatch.seeding import child_seed

NUM_TREES = 40
MAX_LEAVES = 6
MIN_ANSWERS_PER_LEAF = 6
"""At 64 answers of each side a tree cannot single out a few of them."""


def leak_features(answers: Sequence[Answer]) -> Float[np.ndarray, "answer feature"]:
    """Returns all that the leak probe sees of each answer.

    Number of tokens, whether it was finished, number of spaces, of line breaks, of other white
    space, and of white space at its start and at its end.
    """
    return np.array([_seen(answer) for answer in answers], dtype=np.float64)


def leak_scores(
    demonstrations: Sequence[Answer], answers: Sequence[Answer], folds: Sequence[int], *, seed: int
) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
    """Returns each answer's log-odds of being a demonstration, by trees of the other half.

    Args:
        demonstrations: One for each row.
        answers: Rollouts to the same prompts, row by row.
        folds: The half, 0 or 1, of each row; both must occur.
        seed: Of the trees.
    """
    # Takes a second or more; so the first step of training does not wait for it.
    ensemble = import_module("sklearn.ensemble")
    data, rollouts = leak_features(demonstrations), leak_features(answers)
    of_data, of_rollouts = np.zeros(len(data)), np.zeros(len(rollouts))
    for fold in (0, 1):
        seen = np.asarray(folds) != fold
        trees = ensemble.HistGradientBoostingClassifier(
            max_iter=NUM_TREES,
            max_leaf_nodes=MAX_LEAVES,
            min_samples_leaf=MIN_ANSWERS_PER_LEAF,
            early_stopping=False,
            random_state=child_seed(seed, "leak probe", fold) % 2**32,
        )
        labels = np.repeat([1, 0], int(seen.sum()))
        trees.fit(np.concatenate([data[seen], rollouts[seen]]), labels)
        of_data[~seen] = trees.decision_function(data[~seen])
        of_rollouts[~seen] = trees.decision_function(rollouts[~seen])
    return of_data, of_rollouts


def _seen(answer: Answer) -> tuple[float, ...]:
    text = answer.text
    num_space = sum(character.isspace() for character in text)
    num_blank, num_breaks = text.count(" "), text.count("\n")
    return (
        len(answer.token_ids),
        answer.is_finished,
        num_blank,
        num_breaks,
        num_space - num_blank - num_breaks,
        len(text) - len(text.lstrip()),
        len(text) - len(text.rstrip()),
    )
