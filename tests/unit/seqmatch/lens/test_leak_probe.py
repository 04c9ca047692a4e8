"""The leak probe sees length, stop token and white space, and nothing else."""

from collections.abc import Callable

import numpy as np

from seqmatch.lens import Answer
from seqmatch.lens.leak_probe import leak_features, leak_scores
from seqmatch.lens.prompt_intervals import auc_interval

NUM_ANSWERS = 128
FOLDS = [row % 2 for row in range(NUM_ANSWERS)]
LawOfLengths = Callable[[np.random.Generator], int]


def _answers(rng: np.random.Generator, length: LawOfLengths) -> list[Answer]:
    found = []
    for row in range(NUM_ANSWERS):
        num_tokens = length(rng)
        found.append(Answer((row,), (1,) * num_tokens, True, "x" * num_tokens))
    return found


def _areas(of_data: LawOfLengths, of_rollouts: LawOfLengths, num_seeds: int) -> np.ndarray:
    areas = []
    for seed in range(num_seeds):
        rng = np.random.default_rng(seed)
        scores = leak_scores(_answers(rng, of_data), _answers(rng, of_rollouts), FOLDS, seed=seed)
        areas.append(auc_interval(*scores, FOLDS, range(NUM_ANSWERS)).value)
    return np.array(areas)


def _mixed(rng: np.random.Generator) -> int:
    return int(rng.integers(4, 30))


def _middling(rng: np.random.Generator) -> int:
    return int(rng.integers(10, 20))


def _extreme(rng: np.random.Generator) -> int:
    """As long as `_middling` in the mean, but never as long."""
    return int(rng.choice([rng.integers(0, 10), rng.integers(20, 30)]))


def test_one_law_of_lengths_is_chance() -> None:
    areas = _areas(_mixed, _mixed, num_seeds=30)

    error = areas.std(ddof=1) / np.sqrt(len(areas))
    assert abs(areas.mean() - 0.5) <= 2.756 * error  # the 99.5 % quantile of t, 29 degrees


def test_lengths_that_never_meet_are_told_apart() -> None:
    """Trees cut between the longest short answer and the shortest long one."""
    (area,) = _areas(_middling, lambda rng: 30 + _middling(rng), num_seeds=1)

    assert area == 1.0


def test_a_leak_that_is_not_monotone_is_found() -> None:
    """No threshold on length does better than 3/4 here; the supports never meet."""
    areas = _areas(_middling, _extreme, num_seeds=5)

    error = areas.std(ddof=1) / np.sqrt(len(areas))
    assert areas.mean() - 4.604 * error > 0.75


def test_what_answers_say_is_not_seen() -> None:
    one = Answer((1,), (5, 6, 7), True, "a b\n")
    two = Answer((2,), (8, 9, 2), True, "z q\n")
    features = leak_features([one, two])

    assert features[0].tolist() == features[1].tolist() == [3, 1, 1, 1, 0, 0, 1]


def test_white_space_and_the_stop_token_are_seen() -> None:
    found = leak_features([Answer((1,), (5,), False, " \ta"), Answer((1,), (5,), True, "a")])

    assert found.tolist() == [[1, 0, 1, 0, 1, 2, 0], [1, 1, 0, 0, 0, 0, 0]]


def test_the_same_seed_gives_the_same_scores() -> None:
    rng = np.random.default_rng(0)
    sides = _answers(rng, _mixed), _answers(rng, _middling)

    one, two = (leak_scores(*sides, FOLDS, seed=3) for _ in range(2))

    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
