"""A mean over a few seeds with its 95 % interval by Student's t. Light."""

import math
from collections.abc import Sequence

_T_975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
"""The 97.5 % quantile of Student's t for 1 to 30 degrees of freedom."""
_NORMAL_975 = 1.96


def mean_with_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and half the width of its 95 % interval; no interval from one value.

    The values are taken as independent and normal; beyond 31 of them t is replaced by 1.96.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    # Not the sum of squares, which is beyond floats where the values are beyond their root.
    away = math.hypot(*(value - mean for value in values))
    freedom = len(values) - 1
    quantile = _T_975[freedom - 1] if freedom <= len(_T_975) else _NORMAL_975
    return mean, quantile * (away / math.sqrt(freedom * len(values)))
