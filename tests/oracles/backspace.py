"""The closed-form law of what stands at the end of decoding with backspace (oracle D17).

A policy is a function from a state (tuple of tokens after the prompt) to the probabilities of the
tokens 0 .. vocab-1 followed by that of backspace. Backspace is masked at the floor (the empty
state): its probability there must be 0. A state that ends with `stop`, or has `max_length`
tokens, is terminal.

w(s) is the probability that s, once entered, is eventually deleted:

    w(s) = b(s) / (1 - sum_x p(x|s) w(s x)),    w(terminal) = 0
    P_out(x | s kept) = p(x|s) (1 - w(s x)) / sum_x' p(x'|s) (1 - w(s x'))
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

State = tuple[int, ...]
Policy = Callable[[State], Sequence[float]]


def is_terminal(state: State, stop: int, max_length: int) -> bool:
    """Ends with the stop token, or is as long as allowed."""
    return bool(state) and (state[-1] == stop or len(state) >= max_length)


def deletion_probability(policy: Policy, state: State, stop: int, max_length: int) -> float:
    """w(s), by recursion over all continuations."""
    if is_terminal(state, stop, max_length):
        return 0.0
    *inserts, backspace = (float(p) for p in policy(state))
    comes_back = sum(
        p * deletion_probability(policy, (*state, token), stop, max_length)
        for token, p in enumerate(inserts)
    )
    return backspace / (1.0 - comes_back)


def kept_child_law(
    policy: Policy, state: State, stop: int, max_length: int
) -> npt.NDArray[np.float64]:
    """P_out(next kept token | state kept), one entry a token."""
    inserts = [float(p) for p in policy(state)][:-1]
    kept = np.array(
        [
            p * (1.0 - deletion_probability(policy, (*state, token), stop, max_length))
            for token, p in enumerate(inserts)
        ]
    )
    law: npt.NDArray[np.float64] = kept / kept.sum()
    return law


def output_law(policy: Policy, stop: int, max_length: int) -> dict[State, float]:
    """P_out of every terminal state; sums to one."""
    law: dict[State, float] = {}
    alive: list[tuple[State, float]] = [((), 1.0)]
    while alive:
        state, probability = alive.pop()
        if is_terminal(state, stop, max_length):
            law[state] = probability
            continue
        for token, p in enumerate(kept_child_law(policy, state, stop, max_length)):
            alive.append(((*state, token), probability * float(p)))
    return law


def simulate(
    policy: Policy, stop: int, max_length: int, rng: np.random.Generator
) -> tuple[State, list[int]]:
    """Runs the policy once; returns the terminal state and the actions that led to it."""
    state: State = ()
    actions: list[int] = []
    while not is_terminal(state, stop, max_length):
        probabilities = np.asarray(policy(state), dtype=np.float64)
        action = int(rng.choice(len(probabilities), p=probabilities))
        actions.append(action)
        state = state[:-1] if action == len(probabilities) - 1 else (*state, action)
    return state, actions
