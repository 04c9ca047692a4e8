"""f-divergences of finite distributions (P = data, Q = model), straight from their definitions."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def kl(p: Array, q: Array) -> float:
    """KL(p || q) in nats."""
    return float(np.sum(p * np.log(p / q)))


def divergence(name: str, p: Array, q: Array) -> float:
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
    }
    return float(values[name])


def generator(name: str, u: Array) -> Array:
    """f(u), u = model over data, normalised so that f(1) = f'(1) = 0."""
    if name == "forward_kl":
        return np.asarray(-np.log(u) + u - 1)
    if name == "reverse_kl":
        return np.asarray(u * np.log(u) - u + 1)
    if name == "jensen_shannon":
        return np.asarray(u * np.log(u) - (u + 1) * np.log((u + 1) / 2))
    if name == "chi_square_pearson":
        return np.asarray((u - 1) ** 2)
    if name == "chi_square_neyman":
        return np.asarray((1 - u) ** 2 / u)
    if name == "chi_square_mixture":
        return np.asarray((u - 1) ** 2 / (u + 1))
    if name == "squared_hellinger":
        return np.asarray((np.sqrt(u) - 1) ** 2)
    raise LookupError(name)


def minus_conjugate_of_minus(name: str, x: float) -> float:
    """-f*(-x) = inf over u > 0 of [x u + f(u)], by golden-section search in log u (convex in u).

    For Pearson's chi-square u runs over all real numbers, as in the literature, so that the result
    is x - x^2/4 for every x; it is found in closed form from the same definition.
    """
    if name == "chi_square_pearson":
        u = 1 - x / 2  # where the derivative of x u + (u - 1)^2 vanishes
        return x * u + (u - 1) ** 2

    def value(log_u: float) -> float:
        u = np.exp(np.array(log_u))
        return float(x * u + generator(name, u))

    low, high = -30.0, 30.0
    ratio = (np.sqrt(5.0) - 1) / 2
    for _ in range(200):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if value(left) < value(right):
            high = right
        else:
            low = left
    return value((low + high) / 2)
