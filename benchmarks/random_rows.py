"""Random rows of a given size, as steps of training take them: what they say does not matter."""

import numpy as np

from seqmatch.action_space import ActionSpace
from seqmatch.types import Trajectory

PROMPT = 8
"""Tokens that are given."""


def answers(
    num_rows: int, num_positions: int, space: ActionSpace, *, seed: int
) -> list[tuple[int, ...]]:
    """Draws answers that fill `num_positions` with their prompt; each ends with the stop token."""
    rng = np.random.default_rng(seed)
    tokens = np.array([x for x in range(space.vocab_size) if x not in space.unpushable])
    drawn = rng.choice(tokens, size=(num_rows, num_positions - PROMPT - 1)).tolist()
    return [(*row, space.eos_id) for row in drawn]


def clean(answer: tuple[int, ...]) -> Trajectory:
    """Returns the answer as a demonstration without mistakes."""
    return Trajectory(answer[:PROMPT], answer, answer)


def demonstration(answer: tuple[int, ...], space: ActionSpace, every: int) -> Trajectory:
    """Returns the answer with a wrong token, and the backspace that undoes it, every so often."""
    labels, pushes = [], []
    for place, token in enumerate(answer):
        if place % every == every - 1:
            labels += [token, space.backspace_id]
            pushes += [answer[0], space.backspace_id]
        labels.append(token)
        pushes.append(token)
    return Trajectory(answer[:PROMPT], tuple(labels), tuple(pushes))


def rollout(answer: tuple[int, ...], space: ActionSpace, every: int) -> Trajectory:
    """Returns the answer as if it had been sampled, a token taken back and replaced every so often.

    It has as many tokens that were pushed as the answer, so as many positions.
    """
    actions: list[int] = []
    for place, token in enumerate(answer):
        if place % every == every - 1:
            actions.append(space.backspace_id)
        actions.append(token)
    return Trajectory(answer[:PROMPT], tuple(actions), tuple(actions))
