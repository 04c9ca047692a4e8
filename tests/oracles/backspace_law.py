"""The law of what stands at the end of an episode with backspace, by recursion over all prefixes.

w(s) = b(s) / (1 - sum_x p(x|s) w(sx)) is the probability that s, once entered, is deleted; what is
kept next has probability p(x|s)(1 - w(sx)), normalised. Terminal prefixes are never deleted.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Prefix = tuple[int, ...]


def output_law(
    probabilities: Callable[[Prefix], NDArray[np.float64]], eos_id: int, max_depth: int
) -> dict[Prefix, float]:
    """Probability of each final text; `probabilities(prefix)` ends with that of backspace."""
    deleted: dict[Prefix, float] = {}

    def is_terminal(prefix: Prefix) -> bool:
        return len(prefix) == max_depth or (bool(prefix) and prefix[-1] == eos_id)

    def w(prefix: Prefix) -> float:
        if is_terminal(prefix):
            return 0.0
        if prefix not in deleted:
            p = probabilities(prefix)
            stays = sum(p[x] * w((*prefix, x)) for x in range(len(p) - 1))
            deleted[prefix] = p[-1] / (1.0 - stays)
        return deleted[prefix]

    law: dict[Prefix, float] = {}

    def descend(prefix: Prefix, mass: float) -> None:
        if is_terminal(prefix):
            law[prefix] = mass
            return
        p = probabilities(prefix)
        kept = np.array([p[x] * (1.0 - w((*prefix, x))) for x in range(len(p) - 1)])
        for x, share in enumerate(kept / kept.sum()):
            descend((*prefix, x), mass * share)

    descend((), 1.0)
    return law
