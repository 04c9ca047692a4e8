r"""The alpha family of divergences: one dial from forward to reverse KL and beyond.

With the order a (alpha is the entropy weight elsewhere in this project) and u = model over data,

    f_a(u)   = [u^a - a u - (1 - a)] / (a (a - 1)),   f''(1) = 1
    r*       = (1 - u^{a-1}) / (a - 1),               R_a(h) = (e^{(1-a) h} - 1) / (1 - a)
    phi_a(x) = [1 - (1 + (1-a) x)^{-a/(1-a)}] / a,    phi'(x) = (1 + (1-a) x)^{-1/(1-a)}

a = 0 is forward KL, 1 reverse KL (both as the limits, exactly), 1/2 twice squared Hellinger, 2 half
of Pearson's chi-square and -1 half of Neyman's. Errors near the limits are O(|a|) and O(|1 - a|).
For a > 1 the ratio is kept at u >= 0, so that phi is 1/a from x = 1/(a-1) on; as printed for
Pearson's, phi would turn down there.

Source: the alpha-IRL row of arXiv 2403.12017, read as a divergence of model from data; phi derived.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from seqmatch.divergences.catalogue import DEMONSTRATIONS_ONLY
from seqmatch.divergences.log_space import (
    exp_remainder,
    log_ratio,
    near_or_far,
    power_ratio,
)
from seqmatch.divergences.record import Behaviour, Divergence
from seqmatch.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_ORDER = 0.5
MINIMUM_ORDER = -1.0
MAXIMUM_ORDER = 2.0

_STEEPEST = 5.0
"""phi is linear where its slope is above e^5, as reverse KL's; or nearer than a tenth to its pole,
as forward KL's."""
_NEAREST = 2.0**-10
_FLATTEST = 30.0
"""For a > 1 phi is followed to this share of its domain before the bound, or to a slope e^-30."""


def alpha_divergence(order: float) -> Divergence:
    """Returns the member of this order.

    Raises:
        ConfigError: The order is outside [-1, 2].
    """
    if not MINIMUM_ORDER <= order <= MAXIMUM_ORDER:
        raise ConfigError(
            f"order {order:g} of the alpha divergence is not allowed; it is from "
            f"{MINIMUM_ORDER:g} to {MAXIMUM_ORDER:g}"
        )
    return Divergence(
        name="alpha",
        title="Alpha family",
        sentence="One dial from forward KL (order 0) over squared Hellinger (1/2) to reverse KL "
        "(1).",
        formula=r"\tfrac{1}{a(a-1)}"
        r" \left[ \sum \rho_\theta^{a} \rho_{\text{data}}^{1-a} - 1 \right]",
        generator_formula=r"f_a(u) = \frac{u^a - a u - (1 - a)}{a(a - 1)}",
        phi_formula=r"\varphi_a(x) = \tfrac1a\left[1 - (1 + (1-a)x)^{-a/(1-a)}\right]",
        reward_formula=r"R_a(h) = \frac{e^{(1-a)h} - 1}{1 - a}",
        generator_of_log_ratio=partial(_generator, order),
        policy_reward=partial(_policy_reward, order),
        second_derivative=1.0,
        at_zero=1 / order if order > 0 else math.inf,
        at_infinity=1 / (1 - order) if order < 1 else math.inf,
        domain_minimum=-1 / (1 - order) if order < 1 else -math.inf,
        linear_below=_linear_below(order),
        linear_above=_linear_above(order),
        phi_inside=partial(_phi, order),
        phi_prime_inside=partial(_phi_prime, order),
        behaviour=_behaviour(order),
        is_symmetric=order == DEFAULT_ORDER,
        needs=DEMONSTRATIONS_ONLY,
        source="alpha-IRL of arXiv 2403.12017, table of f-divergences; phi is derived",
        order=order,
        with_order=alpha_divergence,
    )


def _generator(order: float, w: Tensor) -> Tensor:
    """f_a(e^w); beyond order 1/2 from the member of order 1 - a, f_a(u) = u f_{1-a}(1/u)."""
    rest = 1.0 - order
    if order <= DEFAULT_ORDER:
        return near_or_far(
            w,
            lambda near: (exp_remainder(near) - _scaled_remainder(near, order)) / rest,
            lambda far: (far.exp() - 1 - power_ratio(far, order)) / rest,
        )
    return near_or_far(
        w,
        lambda near: near.exp() * (exp_remainder(-near) - _scaled_remainder(-near, rest)) / order,
        lambda far: (1 - far.exp() - far.exp() * power_ratio(-far, rest)) / order,
    )


def _scaled_remainder(x: Tensor, c: float) -> Tensor:
    """(e^{c x} - 1 - c x)/c, 0 at c = 0."""
    return exp_remainder(c * x) / c if c != 0.0 else x * 0.0


def _policy_reward(order: float, h: Tensor) -> Tensor:
    return power_ratio(h, 1.0 - order)


def _phi(order: float, x: Tensor) -> Tensor:
    minus_log_slope = log_ratio(x, 1.0 - order)
    return -power_ratio(-minus_log_slope, order) if order != 0.0 else minus_log_slope


def _phi_prime(order: float, x: Tensor) -> Tensor:
    return (-log_ratio(x, 1.0 - order)).exp()


def _linear_below(order: float) -> float:
    rest = 1.0 - order
    if rest == 0.0:
        return -_STEEPEST
    steepest = math.expm1(-_STEEPEST * rest) / rest
    return max(steepest, -0.9 / rest) if rest > 0.0 else steepest


def _linear_above(order: float) -> float:
    if order <= 1.0:
        return math.inf
    return (1 - max(_NEAREST, math.exp(-_FLATTEST * (order - 1)))) / (order - 1)


def _behaviour(order: float) -> Behaviour:
    if order <= 0.0:
        return "mass-covering"
    return "between" if order < 1.0 else "mode-seeking"
