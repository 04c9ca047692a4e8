"""The token MDP of a small vocabulary as a finite Markov chain: occupancies by linear algebra.

A state is a tuple of tokens after the prompt. A policy maps it to probabilities of the tokens
0 .. vocab-1, then of backspace. At the floor (the empty state) backspace is a self-loop. A state
that ends with token 0 is terminal and absorbing. At `max_length` - 1 tokens every insertion
inserts the stop token 0, whatever was chosen.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

State = tuple[int, ...]
Array = npt.NDArray[np.float64]
Policy = Callable[[State], Array]


def all_states(vocab: int, max_length: int) -> list[State]:
    """Every state that can be reached, the empty one first."""
    states: list[State] = [()]
    for state in states:
        if state and state[-1] == 0:
            continue
        inserts = range(1) if len(state) == max_length - 1 else range(vocab)
        states.extend((*state, token) for token in inserts)
    return states


def next_state(state: State, action: int, vocab: int, max_length: int) -> State:
    """Where an action leads; `vocab` is backspace."""
    if state and state[-1] == 0:
        return state
    if action == vocab:
        return state[:-1]
    return (*state, 0 if len(state) == max_length - 1 else action)


def transition_matrix(policy: Policy, states: list[State], vocab: int, max_length: int) -> Array:
    """P[i, j], the probability of state j after state i."""
    index = {state: place for place, state in enumerate(states)}
    matrix = np.zeros((len(states), len(states)))
    for state in states:
        for action, probability in enumerate(policy(state)):
            matrix[index[state], index[next_state(state, action, vocab, max_length)]] += probability
    return matrix


def state_occupancy(matrix: Array, discount: float) -> Array:
    """(1 - gamma) sum_t gamma^t P(s_t = s), from the first state: one linear solve."""
    start = np.zeros(len(matrix))
    start[0] = 1.0 - discount
    return np.asarray(
        np.linalg.solve(np.eye(len(matrix)) - discount * matrix.T, start), dtype=np.float64
    )


def absorption_law(matrix: Array, states: list[State]) -> dict[State, float]:
    """The probability of ending in each terminal state, from the first state."""
    alive = [i for i, state in enumerate(states) if not (state and state[-1] == 0)]
    ended = [i for i, state in enumerate(states) if state and state[-1] == 0]
    visits = np.linalg.inv(np.eye(len(alive)) - matrix[np.ix_(alive, alive)])
    law = visits[0] @ matrix[np.ix_(alive, ended)]
    return {states[i]: float(p) for i, p in zip(ended, law, strict=True)}
