"""The divergences without a parameter, one record each.

Source: phi by the relation of Garg et al. (IQ-Learn, arXiv 2106.12142); Cundy & Ermon (arXiv
2306.05426) print chi-square and its mixture only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from seqmatch.divergences.log_space import (
    exp_minus_one,
    exp_remainder,
    logistic,
    near_or_far,
)
from seqmatch.divergences.record import Divergence

if TYPE_CHECKING:
    from torch import Tensor

DEMONSTRATIONS_ONLY = "demonstrations only"
_DEMONSTRATIONS_AND_ROLLOUTS = "demonstrations and sampled answers of the policy"
IQ_LEARN = "Garg et al. 2021 (IQ-Learn), phi(x) = -f*(-x) with a normalised generator"


def _reverse_kl_generator(w: Tensor) -> Tensor:
    return near_or_far(
        w, lambda near: near.exp() * exp_remainder(-near), lambda far: far.exp() * (far - 1) + 1
    )


def _jensen_shannon_generator(w: Tensor) -> Tensor:
    """With a = log((1+u)/2) and b = log(2u/(1+u)): u b - a, near 1 a sum of positive terms."""

    def near(w: Tensor) -> Tensor:
        a, b = _log_mean_ratio(w), -_log_mean_ratio(-w)
        return exp_remainder(a) + w.exp() * exp_remainder(-b)

    def far(w: Tensor) -> Tensor:
        return -w.exp() * _log_mean_ratio(-w) - _log_mean_ratio(w)

    return near_or_far(w, near, far)


def _log_mean_ratio(w: Tensor) -> Tensor:
    """log((1 + e^w)/2), 0 at w = 0."""
    return (exp_minus_one(w) / 2).log1p()


def _mixture_generator(w: Tensor) -> Tensor:
    """(u-1)^2/(u+1) = (u-1) tanh(w/2) = u + 1 - 4u/(1+u)."""
    return near_or_far(
        w,
        lambda near: near.expm1() * (near / 2).tanh(),
        lambda far: far.exp() + 1 - 4 * logistic(far),
    )


def _mixture_policy_reward(h: Tensor) -> Tensor:
    """4/(1+u)^2 - 1 = t (t + 2), t = tanh(h/2)."""
    return near_or_far(
        h,
        lambda near: (near / 2).tanh() * ((near / 2).tanh() + 2),
        lambda far: 4 * logistic(far).square() - 1,
    )


def _mixture_conjugate(t: Tensor) -> Tensor:
    """(1 - s)(3 - s) with s = sqrt(1 - t)."""
    root = (1 - t).sqrt()
    return t / (1 + root) * (3 - root)


_FORWARD_KL = Divergence(
    name="forward_kl",
    title="Forward KL",
    sentence="The model must give probability to everything that the demonstrations do.",
    formula=r"\mathrm{KL}(\rho_{\text{data}} \,\|\, \rho_\theta)",
    generator_formula=r"f(u) = -\log u + u - 1",
    phi_formula=r"\varphi(x) = \log(1 + x)",
    reward_formula=r"R(h) = e^h - 1",
    generator_of_log_ratio=exp_remainder,
    policy_reward=exp_minus_one,
    second_derivative=1.0,
    at_zero=math.inf,
    at_infinity=1.0,
    domain_minimum=-1.0,
    linear_below=-0.9,
    phi_inside=lambda x: x.log1p(),
    phi_prime_inside=lambda x: 1 / (1 + x),
    behaviour="mass-covering",
    is_symmetric=False,
    needs=DEMONSTRATIONS_ONLY,
    source=IQ_LEARN,
)

_REVERSE_KL = Divergence(
    name="reverse_kl",
    title="Reverse KL",
    sentence="The model must not do what the demonstrations never do, even if it leaves some out.",
    formula=r"\mathrm{KL}(\rho_\theta \,\|\, \rho_{\text{data}})",
    generator_formula=r"f(u) = u \log u - u + 1",
    phi_formula=r"\varphi(x) = 1 - e^{-x}",
    reward_formula=r"R(h) = h",
    generator_of_log_ratio=_reverse_kl_generator,
    policy_reward=lambda h: h,
    second_derivative=1.0,
    at_zero=1.0,
    at_infinity=math.inf,
    domain_minimum=-math.inf,
    linear_below=-5.0,
    phi_inside=lambda x: -exp_minus_one(-x),
    phi_prime_inside=lambda x: (-x).exp(),
    behaviour="mode-seeking",
    is_symmetric=False,
    needs=DEMONSTRATIONS_ONLY,
    source=IQ_LEARN + "; IQ-Learn's code calls it kl_fix",
)

_JENSEN_SHANNON = Divergence(
    name="jensen_shannon",
    title="Jensen-Shannon",
    sentence="Model and demonstrations should be hard to tell apart by a classifier.",
    formula=r"\begin{aligned}&2\,\mathrm{JS} = \mathrm{KL}(\rho_{\text{data}} \,\|\, m)"
    r" + \mathrm{KL}(\rho_\theta \,\|\, m) \\"
    r"&m = \tfrac12(\rho_{\text{data}} + \rho_\theta)\end{aligned}",
    generator_formula=r"f(u) = u \log u - (u + 1) \log \tfrac{u + 1}{2}",
    phi_formula=r"\varphi(x) = \log(2 - e^{-x})",
    reward_formula=r"R(h) = \log(1 + e^h) - \log 2",
    generator_of_log_ratio=_jensen_shannon_generator,
    policy_reward=_log_mean_ratio,
    second_derivative=0.5,
    at_zero=math.log(2.0),
    at_infinity=math.log(2.0),
    domain_minimum=-math.log(2.0),
    linear_below=-0.6,
    phi_inside=lambda x: (-exp_minus_one(-x)).log1p(),
    phi_prime_inside=lambda x: (-x).exp() / (2 - (-x).exp()),
    behaviour="between",
    is_symmetric=True,
    needs=DEMONSTRATIONS_ONLY,
    source=IQ_LEARN,
)

_CHI_SQUARE_PEARSON = Divergence(
    name="chi_square_pearson",
    title="Chi-square (Pearson)",
    sentence="Penalises the square of how far model and demonstrations differ, relative to the "
    "demonstrations.",
    formula=r"\mathbb{E}_{\rho_{\text{data}}}"
    r"\left[(\rho_\theta / \rho_{\text{data}} - 1)^2\right]",
    generator_formula=r"f(u) = (u - 1)^2",
    phi_formula=r"\varphi(x) = x - \tfrac{x^2}{4}",
    reward_formula=r"R(h) = 2 (1 - e^{-h})",
    generator_of_log_ratio=lambda w: exp_minus_one(w).square(),
    policy_reward=lambda h: -2 * exp_minus_one(-h),
    second_derivative=2.0,
    at_zero=1.0,
    at_infinity=math.inf,
    domain_minimum=-math.inf,
    linear_below=-math.inf,
    phi_inside=lambda x: x * (1 - x / 4),
    phi_prime_inside=lambda x: 1 - x / 2,
    behaviour="mode-seeking",
    is_symmetric=False,
    needs=DEMONSTRATIONS_ONLY,
    source="Cundy & Ermon 2023 (SequenceMatch), section on chi-square; Garg et al. 2021",
)

_CHI_SQUARE_NEYMAN = Divergence(
    name="chi_square_neyman",
    title="Chi-square (Neyman)",
    sentence="Pearson's with the roles exchanged: leaving out what is demonstrated costs most.",
    formula=r"\mathbb{E}_{\rho_\theta}\left[(\rho_{\text{data}} / \rho_\theta - 1)^2\right]",
    generator_formula=r"f(u) = \tfrac{(1 - u)^2}{u}",
    phi_formula=r"\varphi(x) = 2\sqrt{1 + x} - 2",
    reward_formula=r"R(h) = e^{2h} - 1",
    generator_of_log_ratio=lambda w: -exp_minus_one(w) * exp_minus_one(-w),
    policy_reward=lambda h: exp_minus_one(2 * h),
    second_derivative=2.0,
    at_zero=math.inf,
    at_infinity=1.0,
    domain_minimum=-1.0,
    linear_below=-0.9,
    phi_inside=lambda x: 2 * x / (1 + (1 + x).sqrt()),
    phi_prime_inside=lambda x: (1 + x).rsqrt(),
    behaviour="mass-covering",
    is_symmetric=False,
    needs=DEMONSTRATIONS_ONLY,
    source=IQ_LEARN,
)

_CHI_SQUARE_MIXTURE = Divergence(
    name="chi_square_mixture",
    title="Chi-square mixture",
    sentence="Chi-square against the average of model and demonstrations: bounded, so it stays "
    "finite where the model leaves the data.",
    formula=r"\begin{aligned}&2\,\chi^2\!\left(\rho_{\text{data}} \,\|\, m\right) ="
    r" \sum \frac{(\rho_{\text{data}} - \rho_\theta)^2}{\rho_{\text{data}} + \rho_\theta} \\"
    r"&m = \tfrac12(\rho_{\text{data}} + \rho_\theta)\end{aligned}",
    generator_formula=r"f(u) = \tfrac{(u - 1)^2}{u + 1}",
    phi_formula=r"\varphi(x) = x - \tfrac{x^2}{4} \text{ on data, }"
    r" -\tfrac{x^2}{4} \text{ on rollouts}",
    reward_formula=r"R(h) = 4 \sigma(h)^2 - 1",
    generator_of_log_ratio=_mixture_generator,
    policy_reward=_mixture_policy_reward,
    second_derivative=1.0,
    at_zero=1.0,
    at_infinity=1.0,
    domain_minimum=-math.inf,
    linear_below=-math.inf,
    phi_inside=_CHI_SQUARE_PEARSON.phi_inside,
    phi_prime_inside=_CHI_SQUARE_PEARSON.phi_prime_inside,
    behaviour="between",
    is_symmetric=True,
    needs=_DEMONSTRATIONS_AND_ROLLOUTS,
    source="Cundy & Ermon 2023 (SequenceMatch), chi-square mixture; its coefficient 1/4 is derived",
    uses_mixture=True,
    # 2 (1 - u)/(1 + u) = 2 - 4u/(1 + u): where 1 - r/2 = u (1 + r/2).
    mixture_reward=lambda w: near_or_far(
        w, lambda near: -2 * (near / 2).tanh(), lambda far: 2 - 4 * logistic(far)
    ),
    mixture_conjugate=_mixture_conjugate,
)

_SQUARED_HELLINGER = Divergence(
    name="squared_hellinger",
    title="Squared Hellinger",
    sentence="Compares square roots of probabilities: symmetric, bounded and mild on rare events.",
    formula=r"\sum \left(\sqrt{\rho_{\text{data}}} - \sqrt{\rho_\theta}\right)^2",
    generator_formula=r"f(u) = (\sqrt{u} - 1)^2",
    phi_formula=r"\varphi(x) = \tfrac{x}{1 + x}",
    reward_formula=r"R(h) = e^{h/2} - 1",
    generator_of_log_ratio=lambda w: exp_minus_one(w / 2).square(),
    policy_reward=lambda h: exp_minus_one(h / 2),
    second_derivative=0.5,
    at_zero=1.0,
    at_infinity=1.0,
    domain_minimum=-1.0,
    linear_below=-0.9,
    # 1 - 1/(1 + x), whose derivative keeps its precision for large x.
    phi_inside=lambda x: -exp_minus_one(-x.log1p()),
    phi_prime_inside=lambda x: (1 + x) ** -2,
    behaviour="between",
    is_symmetric=True,
    needs=DEMONSTRATIONS_ONLY,
    source=IQ_LEARN,
)

_TOTAL_VARIATION = Divergence(
    name="total_variation",
    title="Total variation",
    sentence="Half the sum of the differences of probability, whatever their ratio: bounded, and "
    "without a slope where one side has nothing.",
    formula=r"\tfrac12 \sum \left|\rho_{\text{data}} - \rho_\theta\right|",
    generator_formula=r"f(u) = \tfrac12 |u - 1|",
    phi_formula=r"\varphi(x) = x, \quad |x| \le \tfrac12",
    reward_formula=r"R(h) = \tfrac12 \operatorname{sign}(h)",
    generator_of_log_ratio=lambda w: exp_minus_one(w).abs() / 2,
    policy_reward=lambda h: h.sign() / 2,
    second_derivative=None,
    at_zero=0.5,
    at_infinity=0.5,
    domain_minimum=-0.5,
    linear_below=-0.5,
    phi_inside=lambda x: x,
    phi_prime_inside=lambda x: x.new_ones(x.shape),
    behaviour="between",
    is_symmetric=True,
    needs="exact probabilities or a discriminator",
    source="phi(x) = -f*(-x) of Garg et al. 2021 (IQ-Learn), on its domain",
    left_out={
        "sequence_match": "its phi is the identity on |x| <= 1/2 and stays the identity when "
        "extended, which drops the bound and leaves discounted likelihood for every alpha"
    },
)

FIXED_DIVERGENCES: tuple[Divergence, ...] = (
    _CHI_SQUARE_MIXTURE,
    _FORWARD_KL,
    _REVERSE_KL,
    _JENSEN_SHANNON,
    _CHI_SQUARE_PEARSON,
    _CHI_SQUARE_NEYMAN,
    _SQUARED_HELLINGER,
    _TOTAL_VARIATION,
)
