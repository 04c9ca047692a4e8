"""Named random generators, all derived from one run seed.

Every consumer has its own stream, so that adding a consumer shifts no other; and a stream is a
function of its name alone, so that nothing has to be saved to resume it.
"""

import hashlib

import numpy as np


def child_seed(seed: int, *name: str | int) -> int:
    """Returns the seed of the stream called `name` under the run's `seed`.

    The first 8 bytes of SHA-256 over the seed and the parts of the name, shifted to 63 bits; parts
    are for example ("corruption", 120) for the corruption of the batch of step 120.
    """
    text = "\x1f".join(str(part) for part in (seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """Returns a fresh generator (PCG64) at the start of the stream called `name`."""
    return np.random.Generator(np.random.PCG64(child_seed(seed, *name)))
