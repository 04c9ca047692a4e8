"""f-divergences of finite distributions (P = data, Q = model), straight from their definitions.

The order is that of the alpha family; other divergences ignore it. Formulas are the naive ones:
give them longdouble where a difference of nearly equal numbers matters.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
DEFAULT_ORDER = 0.5

P, Q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
FIXTURE = {
    "forward_kl": 0.498223582,
    "reverse_kl": 0.5849964985,
    "jensen_shannon": 2 * 0.1251006059,
    "chi_square_pearson": 1.8666666667,
    "chi_square_neyman": 1.12,
    "chi_square_mixture": 0.4666666667,
    "squared_hellinger": 0.2599660815,
    "total_variation": 0.4,
    "alpha": 2 * 0.2599660815,
}
"""The numeric fixture of the method's notes, for P and Q above."""


def kl(p: Array, q: Array) -> float:
    """KL(p || q) in nats."""
    return float(np.sum(p * np.log(p / q)))


def divergence(name: str, p: Array, q: Array, order: float = DEFAULT_ORDER) -> float:
    """The divergence with this name of the model q from the data p."""
    middle = (p + q) / 2
    values = {
        "forward_kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "jensen_shannon": kl(p, middle) + kl(q, middle),
        "chi_square_pearson": np.sum(p * (q / p - 1) ** 2),
        "chi_square_neyman": np.sum(q * (p / q - 1) ** 2),
        "chi_square_mixture": 2 * np.sum(middle * (p / middle - 1) ** 2),
        "squared_hellinger": np.sum((np.sqrt(p) - np.sqrt(q)) ** 2),
        "total_variation": np.max([np.sum((p - q)[p > q]), np.sum((q - p)[q > p])]),
        "alpha": alpha_divergence(p, q, order),
    }
    return float(values[name])


def alpha_divergence(p: Array, q: Array, order: float) -> float:
    """(sum q^a p^{1-a} - 1)/(a (a - 1)), and its limits at a = 0 and a = 1."""
    if order == 0.0:
        return kl(p, q)
    if order == 1.0:
        return kl(q, p)
    return float((np.sum(q**order * p ** (1 - order)) - 1) / (order * (order - 1)))


def generator(name: str, u: Array, order: float = DEFAULT_ORDER) -> Array:
    """f(u), u = model over data, normalised so that f(1) = f'(1) = 0."""
    if name == "alpha" and order in (0.0, 1.0):
        return generator("forward_kl" if order == 0.0 else "reverse_kl", u)
    a = order
    formulas: dict[str, Callable[[], Array]] = {
        "forward_kl": lambda: -np.log(u) + u - 1,
        "reverse_kl": lambda: u * np.log(u) - u + 1,
        "jensen_shannon": lambda: u * np.log(u) - (u + 1) * np.log((u + 1) / 2),
        "chi_square_pearson": lambda: (u - 1) ** 2,
        "chi_square_neyman": lambda: (1 - u) ** 2 / u,
        "chi_square_mixture": lambda: (u - 1) ** 2 / (u + 1),
        "squared_hellinger": lambda: (np.sqrt(u) - 1) ** 2,
        "total_variation": lambda: np.abs(u - 1) / 2,
        "alpha": lambda: (u**a - a * u - (1 - a)) / (a * (a - 1)),
    }
    return np.asarray(formulas[name]())


def generator_prime(name: str, u: Array, order: float = DEFAULT_ORDER) -> Array:
    """f'(u)."""
    if name == "alpha" and order in (0.0, 1.0):
        return generator_prime("forward_kl" if order == 0.0 else "reverse_kl", u)
    formulas: dict[str, Callable[[], Array]] = {
        "forward_kl": lambda: 1 - 1 / u,
        "reverse_kl": lambda: np.log(u),
        "jensen_shannon": lambda: np.log(2 * u / (1 + u)),
        "chi_square_pearson": lambda: 2 * (u - 1),
        "chi_square_neyman": lambda: 1 - 1 / u**2,
        "chi_square_mixture": lambda: (u - 1) * (u + 3) / (u + 1) ** 2,
        "squared_hellinger": lambda: 1 - 1 / np.sqrt(u),
        "total_variation": lambda: np.sign(u - 1) / 2,
        "alpha": lambda: (u ** (order - 1) - 1) / (order - 1),
    }
    return np.asarray(formulas[name]())


def policy_reward(name: str, h: Array, order: float = DEFAULT_ORDER) -> Array:
    """R = v f_B'(v) - f_B(v) at v = e^h = data/model, with f_B(v) = v f(1/v).

    This is the reward of arXiv 2403.12017, equations 28 to 30, whose generators take the data over
    the model; f_B' is (f_B)'(v) = f(1/v) - f'(1/v)/v by the chain rule.
    """
    v = np.exp(h)
    u = 1 / v
    swapped = v * generator(name, u, order)
    slope = generator(name, u, order) - generator_prime(name, u, order) / v
    return np.asarray(v * slope - swapped)


def minus_conjugate_of_minus(name: str, x: Array, order: float = DEFAULT_ORDER) -> Array:
    """-f*(-x) = inf over u > 0 of [x u + f(u)], for each x.

    For Pearson's chi-square u runs over all real numbers, as in the literature, so that the result
    is x - x^2/4 for every x; it is found in closed form from the same definition.
    """
    if name == "chi_square_pearson":
        u = 1 - x / 2  # where the derivative of x u + (u - 1)^2 vanishes
        return np.asarray(x * u + (u - 1) ** 2)
    return lowest(lambda u: x * u + generator(name, u, order), x.shape)


def lowest(function: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    """The infima over u in (e^-30, e^30) of convex functions, by golden section in log u."""
    low, high = np.full(shape, -30.0), np.full(shape, 30.0)
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        is_left = function(np.exp(left)) < function(np.exp(right))
        low, high = np.where(is_left, low, left), np.where(is_left, right, high)
    return function(np.exp((low + high) / 2))
