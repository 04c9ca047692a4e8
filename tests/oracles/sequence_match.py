"""The SequenceMatch objective of one pair of trajectories, term by term, from equation 4.

A trajectory is its table of logits (one row a state, the last one terminal) and its labels. The
phi here are written anew from the table of the paper's relation phi(x) = -f*(-x); slopes are found
by complex steps, phi'(x) = Im phi(x + i h)/h, which is exact to rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Trajectory = tuple[Array, Sequence[int]]
Function = Callable[[complex], complex]

PHI: dict[str, Function] = {
    "forward_kl": lambda x: np.log(1 + x),
    "reverse_kl": lambda x: 1 - np.exp(-x),
    "jensen_shannon": lambda x: np.log(2 - np.exp(-x)),
    "chi_square_pearson": lambda x: x - x**2 / 4,
    "chi_square_mixture": lambda x: x - x**2 / 4,
    "chi_square_neyman": lambda x: 2 * np.sqrt(1 + x) - 2,
    "squared_hellinger": lambda x: x / (1 + x),
    "alpha": lambda x: 2 - 2 / (1 + x / 2),  # order 1/2
}


@dataclass(frozen=True)
class Options:
    """The settings of the objective beside alpha and gamma."""

    mixture_data: float = 0.25
    mixture_model: float = 0.25
    clip: float = 0.0


DEFAULT = Options()


def reward_term(name: str, reward: float, options: Options = DEFAULT) -> float:
    """phi of a reward on demonstrations; of the mixture x - c_E x^2."""
    if name == "chi_square_mixture":
        return continued(lambda x: x - options.mixture_data * x**2, reward, options.clip)
    return continued(PHI[name], reward, options.clip)


def square_term(reward: float, options: Options = DEFAULT) -> float:
    """c_pi r^2 on rollouts."""
    return continued(lambda x: options.mixture_model * x**2, reward, options.clip)


def continued(function: Function, x: float, clip: float) -> float:
    """The function, and beyond |x| = clip its tangent there; 0 is no clip."""
    edge = min(max(x, -clip), clip) if clip else x
    slope = np.imag(function(complex(edge, 1e-30))) / 1e-30 if edge != x else 0.0
    return float(np.real(function(edge)) + slope * (x - edge))


def soft_values(logits: Array) -> list[float]:
    """V(s) = log sum exp of the logits of each state."""
    return [float(np.log(np.sum(np.exp(row)))) for row in logits]


def soft_td(
    logits: Array, labels: Sequence[int], gamma: float, next_values: Sequence[float] | None = None
) -> list[float]:
    """d_t = l(y_t | s_t) - gamma V(s_{t+1}), V of a target network where its values are given."""
    following = soft_values(logits)[1:] if next_values is None else next_values
    return [float(logits[t][label]) - gamma * following[t] for t, label in enumerate(labels)]


def equation_4(
    name: str,
    data: Trajectory,
    model: Trajectory | None,
    gamma: float,
    alpha: float,
    options: Options = DEFAULT,
    data_next: Sequence[float] | None = None,
    model_next: Sequence[float] | None = None,
) -> float:
    """J-hat, to be maximised: data and model value sums, and the absorbing state's terms.

    Without a model trajectory the data's value sum counts twice, so with weight 1.
    """
    v, n = soft_values(data[0]), len(data[1])
    j = 0.0
    for i, d in enumerate(soft_td(*data, gamma, data_next)):
        j += gamma**i * reward_term(name, alpha * d, options) / alpha
    end = reward_term(name, alpha * (1 - gamma) * v[n], options)
    j += gamma**n / (alpha * (1 - gamma)) * end
    other, other_next = (data, data_next) if model is None else (model, model_next)
    return j - value_sum(data, gamma, data_next) / 2 - value_sum(other, gamma, other_next) / 2


def value_sum(
    trajectory: Trajectory, gamma: float, next_values: Sequence[float] | None = None
) -> float:
    """sum_t gamma^t [V(s_t) - gamma V(s_{t+1})] + gamma^N V(s_N)."""
    v, n = soft_values(trajectory[0]), len(trajectory[1])
    following = v[1:] if next_values is None else next_values
    total = sum(gamma**i * (v[i] - gamma * following[i]) for i in range(n))
    return total + gamma**n * v[n]


def mixture_penalty(
    model: Trajectory,
    gamma: float,
    alpha: float,
    options: Options = DEFAULT,
    next_values: Sequence[float] | None = None,
) -> float:
    """1/alpha of the discounted sum of c_pi r^2 over rewards r = alpha d, absorbing tail included.

    The tail is summed visit by visit: at the terminal state the reward is alpha (1 - gamma) V.
    """
    total, m = 0.0, len(model[1])
    for i, d in enumerate(soft_td(*model, gamma, next_values)):
        total += gamma**i * square_term(alpha * d, options)
    tail = square_term(alpha * (1 - gamma) * soft_values(model[0])[m], options)
    for i in range(m, m + 20_000):
        total += gamma**i * tail
    return total / alpha


def discounted_nll(data: Trajectory, gamma: float) -> float:
    """Sum of gamma^t (V(s_t) - l(y_t | s_t))."""
    v = soft_values(data[0])
    return sum(gamma**t * (v[t] - float(data[0][t][y])) for t, y in enumerate(data[1]))
