"""Functions of a log ratio that keep their relative precision, value and derivative alike.

Torch's own derivatives of expm1 and of the logistic function subtract nearly equal numbers for
large arguments, and a difference such as e^x - 1 - x does so for small ones; in float32 nothing is
left of them at |x| = 30. Each function here is put together of a form for small |x| and one for
the rest. All are elementwise. Torch is not imported: they call the tensor's methods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_NEAR = 1.0
"""Below it the series of `exp_remainder` is exact in float64 with its number of terms."""
_NUM_TERMS = 20


def near_or_far(
    x: Tensor, near: Callable[[Tensor], Tensor], far: Callable[[Tensor], Tensor]
) -> Tensor:
    """Computes `near(x)` where |x| < 1 and `far(x)` elsewhere; each sees its own arguments only.

    An argument that one form cannot take would otherwise spoil the other one's gradient with
    0 times infinity.
    """
    is_near = x.abs() < _NEAR
    inner = near(x.where(is_near, x.new_zeros(())))
    return inner.where(is_near, far(x.where(is_near.logical_not(), x.new_full((), 2.0))))


def exp_minus_one(x: Tensor) -> Tensor:
    """Computes e^x - 1."""
    return near_or_far(x, lambda near: near.expm1(), lambda far: far.exp() - 1)


def exp_remainder(x: Tensor) -> Tensor:
    """Computes e^x - 1 - x, which is x^2/2 (1 + x/3 (1 + x/4 (1 + ...)))."""
    return near_or_far(x, _exp_remainder_series, lambda far: far.exp() - 1 - far)


def power_ratio(x: Tensor, c: float) -> Tensor:
    """Computes (e^{c x} - 1)/c; its limit x at c = 0."""
    return x if c == 0.0 else exp_minus_one(c * x) / c


def log_ratio(x: Tensor, c: float) -> Tensor:
    """Computes log(1 + c x)/c for c x > -1; its limit x at c = 0. The inverse of `power_ratio`."""
    return x if c == 0.0 else (c * x).log1p() / c


def logistic(x: Tensor) -> Tensor:
    """Computes 1/(1 + e^{-x}) for x > -80."""
    return (1 + (-x).exp()).reciprocal()


def _exp_remainder_series(x: Tensor) -> Tensor:
    total = x.new_ones(())
    for index in range(_NUM_TERMS, 2, -1):
        total = 1 + x / index * total
    return x * x / 2 * total
