"""Where a tabular policy stands still under SequenceMatch, from occupancy measures (numpy only).

At the optimum rho_model(s,a) = rho_data(s,a) phi'(alpha d(s,a)), with d = l(a|s) - gamma V(s'), and
at terminal states the same with alpha (1 - gamma) V(s). With the squares of the mixture,
coefficients c_data and c_model: rho_data (1 - 2 c_data r) - rho_model 2 c_model r = rho_model.
phi' comes from the generator alone: phi(x) = inf over u of [x u + f(u)], where u = phi'(x).
"""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from tests.oracles.token_chain import (
    State,
    all_states,
    next_state,
    state_occupancy,
    transition_matrix,
)

Array = npt.NDArray[np.float64]
Measure = dict[tuple[State, int], float]


def slope_of_phi(generator_prime: Callable[[Array], Array], x: float) -> float:
    """phi'(x) as the minimiser of x u + f(u) over u > 0: the root of x + f'(u), by bisection."""
    low, high = 1e-12, 1e12
    for _ in range(200):
        middle = np.sqrt(low * high)
        is_left = x + float(generator_prime(np.array(middle))) < 0
        low, high = (middle, high) if is_left else (low, middle)
    return float(np.sqrt(low * high))


def data_measure(law: Mapping[State, float], discount: float) -> Measure:
    """Occupancy of state and action under answers of this law; of a terminal state under action 0.

    rho(s, x) = (1 - gamma) gamma^n P(s x) for the n-th token; a terminal state keeps gamma^N P.
    """
    measure: Measure = {}
    for answer, probability in law.items():
        for time, token in enumerate(answer):
            place = answer[:time], token
            here = (1 - discount) * discount**time * probability
            measure[place] = measure.get(place, 0.0) + here
        end = answer, 0
        measure[end] = measure.get(end, 0.0) + discount ** len(answer) * probability
    return measure


def model_measure(
    probabilities: Callable[[State], Array], vocab: int, max_length: int, discount: float
) -> Measure:
    """Occupancy of state and action under a policy; terminal states under action 0."""
    states = all_states(vocab, max_length)
    matrix = transition_matrix(probabilities, states, vocab, max_length)
    visits = state_occupancy(matrix, discount)
    measure: Measure = {}
    for state, mass in zip(states, visits, strict=True):
        if state and state[-1] == 0:
            measure[state, 0] = float(mass)
            continue
        for action, probability in enumerate(probabilities(state)):
            measure[state, action] = float(mass * probability)
    return measure


def reward(
    logits: Callable[[State], Array],
    place: tuple[State, int],
    vocab: int,
    max_length: int,
    discount: float,
) -> float:
    """d(s, a) = l(a|s) - gamma V(s'); (1 - gamma) V(s) where s is terminal."""
    state, action = place
    if state and state[-1] == 0:
        return float((1 - discount) * np.logaddexp.reduce(logits(state)))
    after = next_state(state, action, vocab, max_length)
    value = np.logaddexp.reduce(logits(after))
    return float(logits(state)[action] - discount * value)
