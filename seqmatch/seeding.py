"""One seed, many independent generators: each is named, so adding one changes no other.

Torch generators are made from `child_seed` where torch is used; this module stays free of it.
"""

import hashlib
import json

import numpy as np


def child_seed(seed: int, *names: str | int) -> int:
    """Derives the seed of the generator with these names from the run's one seed.

    SHA-256 over the seed and the names, the first 63 bits: equal names give equal seeds on every
    machine and Python, and ("a", "b") differs from ("ab",) and ("a", 1) from ("a", "1").

    Args:
        seed: The run's seed, any integer.
        names: What the generator is for, e.g. `"corruption", step`.

    Returns:
        A seed in [0, 2**63), which Python, numpy and torch all take.
    """
    key = json.dumps([seed, *names], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Returns a fresh numpy generator (PCG64) for these names; see `child_seed`."""
    return np.random.Generator(np.random.PCG64(child_seed(seed, *names)))
