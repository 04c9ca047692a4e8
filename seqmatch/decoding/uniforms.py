"""Uniform random numbers that are a function of (seed, row, index) and of nothing else.

So two policies, or one policy with and without backspace, meet the same random numbers, whatever
else is in their batch and in whatever order it is computed.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class UniformSource:
    """A counter-based generator: the number for (row, index) is a hash of the three.

    Source: SplitMix64's finaliser (Steele, Lea & Flood 2014), applied once for each coordinate.
    """

    def __init__(self, seed: int) -> None:
        """Starts the family of streams of this seed."""
        self.seed = seed
        self._start = _mixed(np.array([(seed * _GOLDEN + _GOLDEN) & _MASK], dtype=np.uint64))

    def draw(self, rows: NDArray[np.int64], indices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the numbers in [0, 1) of these (row, action index) pairs."""
        golden = np.uint64(_GOLDEN)
        with np.errstate(over="ignore"):
            row = _mixed(self._start + (rows.astype(np.uint64) + np.uint64(1)) * golden)
            cell = _mixed(row + (indices.astype(np.uint64) + np.uint64(1)) * golden)
        return (cell >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
