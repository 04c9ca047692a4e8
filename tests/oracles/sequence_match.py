"""The SequenceMatch objective of one pair of trajectories, term by term, from equation 4.

A trajectory is its table of logits (one row a state, the last one terminal) and its labels. The
phi here are written anew from the table of the paper's relation phi(x) = -f*(-x).
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PHI: dict[str, Callable[[float], float]] = {
    "forward_kl": lambda x: float(np.log(1 + x)),
    "reverse_kl": lambda x: float(1 - np.exp(-x)),
    "jensen_shannon": lambda x: float(np.log(2 - np.exp(-x))),
    "chi_square_pearson": lambda x: x - x**2 / 4,
    "chi_square_mixture": lambda x: x - x**2 / 4,
    "chi_square_neyman": lambda x: float(2 * np.sqrt(1 + x) - 2),
    "squared_hellinger": lambda x: x / (1 + x),
}


def soft_values(logits: Array) -> list[float]:
    """V(s) = log sum exp of the logits of each state."""
    return [float(np.log(np.sum(np.exp(row)))) for row in logits]


def soft_td(logits: Array, labels: Sequence[int], gamma: float) -> list[float]:
    """d_t = l(y_t | s_t) - gamma V(s_{t+1})."""
    v = soft_values(logits)
    return [float(logits[t][label]) - gamma * v[t + 1] for t, label in enumerate(labels)]


def equation_4(
    name: str,
    data: tuple[Array, Sequence[int]],
    model: tuple[Array, Sequence[int]],
    gamma: float,
    alpha: float,
) -> float:
    """J-hat, to be maximised: data and model value sums, and the absorbing state's terms."""
    phi = PHI[name]
    v, u = soft_values(data[0]), soft_values(model[0])
    n, m = len(data[1]), len(model[1])
    j = 0.0
    for i, d in enumerate(soft_td(*data, gamma)):
        j += gamma**i * phi(alpha * d) / alpha
    for i in range(n):
        j -= gamma**i / 2 * (v[i] - gamma * v[i + 1])
    for i in range(m):
        j -= gamma**i / 2 * (u[i] - gamma * u[i + 1])
    j += gamma**n / (alpha * (1 - gamma)) * phi(alpha * (1 - gamma) * v[n])
    j -= gamma**n / 2 * v[n] + gamma**m / 2 * u[m]
    return j


def mixture_penalty(model: tuple[Array, Sequence[int]], gamma: float, alpha: float) -> float:
    """1/(4 alpha) of the discounted sum of squared rewards alpha d, absorbing tail included.

    The tail is summed visit by visit: at the terminal state the reward is alpha (1 - gamma) V.
    """
    total, m = 0.0, len(model[1])
    for i, d in enumerate(soft_td(*model, gamma)):
        total += gamma**i * (alpha * d) ** 2
    tail_reward = alpha * (1 - gamma) * soft_values(model[0])[m]
    for i in range(m, m + 20_000):
        total += gamma**i * tail_reward**2
    return total / (4 * alpha)


def discounted_nll(data: tuple[Array, Sequence[int]], gamma: float) -> float:
    """Sum of gamma^t (V(s_t) - l(y_t | s_t))."""
    v = soft_values(data[0])
    return sum(gamma**t * (v[t] - float(data[0][t][y])) for t, y in enumerate(data[1]))
