"""The likelihood family and the composite, term by term in numpy, from the papers.

A trajectory is its table of logits (one row a state, the last one terminal) and its labels. The
small languages are prefix trees: a law of the next token for every prefix, token 0 stops.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tests.oracles.sequence_match import equation_4, mixture_penalty, soft_values

Array = npt.NDArray[np.float64]
Trajectory = tuple[Array, Sequence[int]]
Prefix = tuple[int, ...]


def softmax(logits: Array) -> Array:
    """Probabilities of one state."""
    return np.asarray(np.exp(logits) / np.exp(logits).sum())


def weight(name: str, t: int, num_tokens: int, gamma: float) -> float:
    """The weight of token t = 0 .. K of an answer of K + 1 tokens (arXiv 2403.12017, eqs 8-12).

    The exact count is how many of the sums over k = 0 .. K hold token t: those with k >= t.
    """
    last = num_tokens - 1
    count = sum(1 for k in range(num_tokens) if k >= t)
    if name == "paper":
        return (last - t) / last if last else 0.0
    return {"gamma": gamma**t, "count": float(count), "count_norm": count / num_tokens}[name]


def weighted_nll(row: Trajectory, name: str, gamma: float) -> float:
    """Sum of w_t times -log p(y_t | s_t)."""
    logits, labels = row
    return -sum(
        weight(name, t, len(labels), gamma) * float(np.log(softmax(logits[t])[y]))
        for t, y in enumerate(labels)
    )


def dft(row: Trajectory) -> tuple[float, Array]:
    """The loss -sg(p) log p summed over tokens, and its gradient in the logits."""
    logits, labels = row
    total, gradient = 0.0, np.zeros_like(logits)
    for t, y in enumerate(labels):
        p = softmax(logits[t])
        total += -p[y] * float(np.log(p[y]))
        gradient[t] = p[y] * (p - np.eye(len(p))[y])
    return total, gradient


def gem(row: Trajectory, beta: float) -> tuple[float, Array]:
    """The authors' sum_v sg(q(v)) [log f(v) - log f(y)] over tokens plus beta H(q); its gradient.

    The gradient is that of the sum with q held, by differences in f alone; H(q) has none.
    """
    logits, labels = row
    total, gradient = 0.0, np.zeros_like(logits)
    for t, y in enumerate(labels):
        q = softmax(logits[t] / beta)

        def with_q_held(at: Array, q: Array = q, y: int = y) -> float:
            log_f = np.log(softmax(at))
            return float(np.sum(q * (log_f - log_f[y])))

        total += with_q_held(logits[t]) - beta * float(np.sum(q * np.log(q)))
        for a in range(len(q)):
            step = 1e-6 * np.eye(len(q))[a]
            difference = with_q_held(logits[t] + step) - with_q_held(logits[t] - step)
            gradient[t, a] = difference / 2e-6
    return total, gradient


def bernoulli_kl(p: float, b: float) -> float:
    """KL(Ber(p) || Ber(b))."""
    return float(p * np.log(p / b) + (1 - p) * np.log((1 - p) / (1 - b)))


def backspace_calibration(
    row: Trajectory, backspace: int, can_delete: Sequence[bool], gamma: float, margin: float
) -> float:
    """Sum of gamma^t KL(Ber(p(bkspc)) || Ber(target)) over the states that have the action."""
    logits, labels = row
    return sum(
        gamma**t
        * bernoulli_kl(
            float(softmax(logits[t])[backspace]), 1 - margin if y == backspace else margin
        )
        for t, y in enumerate(labels)
        if can_delete[t]
    )


def telescoped(name: str, data: Trajectory, model: Trajectory, gamma: float, alpha: float) -> float:
    """Minus equation 4 with the model's own value sum replaced by that of the data, and mixture."""
    total = -equation_4(name, data, data, gamma, alpha)
    if name == "chi_square_mixture":
        total += mixture_penalty(model, gamma, alpha)
    return total


def composite(
    weights: Mapping[str, float],
    data: Trajectory,
    model: Trajectory,
    gamma: float,
    alpha: float,
) -> float:
    """The weighted sum of what compares measures; calibration apart."""
    parts = {
        "forward_kl": weighted_nll(data, "gamma", gamma),
        "reverse_kl": telescoped("reverse_kl", data, model, gamma, alpha),
        "jensen_shannon": telescoped("jensen_shannon", data, model, gamma, alpha) / 2,
        "chi_square_mixture": 2 * telescoped("chi_square_mixture", data, model, gamma, alpha),
    }
    return sum(weights.get(name, 0.0) * value for name, value in parts.items())


def mean_phi_loss(
    weights: Mapping[str, float], data: Trajectory, gamma: float, alpha: float
) -> float:
    """W {V(s_0) - sum gamma^t phi(alpha d)/alpha - tail}, phi the weighted mean, W their sum."""
    phi = {
        "forward_kl": lambda x: x,
        "reverse_kl": lambda x: 1 - np.exp(-x),
        "chi_square_pearson": lambda x: x - x**2 / 4,
    }
    total_weight = sum(weights.values())

    def mean_phi(x: float) -> float:
        return float(sum(w * phi[name](x) for name, w in weights.items()) / total_weight)

    logits, labels = data
    v, n = soft_values(logits), len(labels)
    found = v[0]
    for t, y in enumerate(labels):
        found -= gamma**t * mean_phi(alpha * (float(logits[t][y]) - gamma * v[t + 1])) / alpha
    tail = alpha * (1 - gamma) * v[n]
    found -= gamma**n * mean_phi(tail) / (alpha * (1 - gamma))
    return total_weight * found


# ---- small languages


def prefixes(vocab: int, longest: int) -> list[Prefix]:
    """Every prefix that does not end with the stop token, shorter than the longest answer."""
    found: list[Prefix] = [()]
    for prefix in found:
        if len(prefix) < longest - 1:
            found.extend((*prefix, token) for token in range(1, vocab))
    return found


def answers(law: Mapping[Prefix, Array], longest: int) -> Iterator[tuple[Prefix, float]]:
    """Every complete answer with its probability; the last token of the longest ones is 0."""
    stack: list[tuple[Prefix, float]] = [((), 1.0)]
    while stack:
        prefix, probability = stack.pop()
        for token, share in enumerate(law[prefix]):
            longer, p = (*prefix, token), probability * float(share)
            if token == 0:
                yield longer, p
            elif len(longer) < longest:
                stack.append((longer, p))


def prefix_probability(law: Mapping[Prefix, Array], prefix: Prefix) -> float:
    """The probability that an answer begins with this prefix."""
    return float(np.prod([law[prefix[:t]][token] for t, token in enumerate(prefix)]))


def occupancy_kl(
    data: Mapping[Prefix, Array], model: Mapping[Prefix, Array], longest: int, gamma: float
) -> float:
    """KL(rho_data || rho_model) of discounted occupancies of total mass 1, absorbing tail included.

    rho(s_t, a_t) = (1 - gamma) gamma^t P(s_t a_t), and gamma^N P(y) at the end of the answer y.
    """
    total = 0.0
    for answer, p in answers(data, longest):
        total += gamma ** len(answer) * p * np.log(p / prefix_probability(model, answer))
    for longer in _begun(data, longest):
        p, q = (prefix_probability(law, longer) for law in (data, model))
        total += (1 - gamma) * gamma ** (len(longer) - 1) * p * np.log(p / q)
    return float(total)


def unnormalised_kl(
    data: Mapping[Prefix, Array], model: Mapping[Prefix, Array], longest: int
) -> float:
    """Sum over k and (s_k, a_k) of rho_data log(rho_data / rho_model), rho = P(s_k a_k)."""
    return float(
        sum(
            prefix_probability(data, longer)
            * np.log(prefix_probability(data, longer) / prefix_probability(model, longer))
            for longer in _begun(data, longest)
        )
    )


def answer_kl(data: Mapping[Prefix, Array], model: Mapping[Prefix, Array], longest: int) -> float:
    """KL between the laws of whole answers."""
    return float(
        sum(p * np.log(p / prefix_probability(model, y)) for y, p in answers(data, longest))
    )


def expected_length(law: Mapping[Prefix, Array], longest: int) -> float:
    """E[N], stop token included."""
    return sum(p * len(y) for y, p in answers(law, longest))


def _begun(law: Mapping[Prefix, Array], longest: int) -> set[Prefix]:
    return {y[: t + 1] for y, p in answers(law, longest) if p for t in range(len(y))}
