"""The registry of divergences between the policy's and the demonstrator's occupancy measures.

Conventions, once: P = data, Q = model, u = Q/P (model over data). D = E_P[f(u)] with a normalised
generator, f(1) = f'(1) = 0. SequenceMatch maximises E_P[phi(r)] - E_Q[r] over rewards r, and
phi(x) = -f*(-x) is concave with phi(0) = 0, phi'(0) = 1, phi''(0) = -1/f''(1); the supremum is D
and the best reward r* = -f'(u) satisfies phi'(r*) = u. So every entry tends to discounted maximum
likelihood as alpha -> 0. All logs are natural.

Where phi has a pole (or grows exponentially), it is extended linearly below `linear_below`:
concave, C1 and finite for every x, so that a far-off logit still has the right direction.

Source: phi by the relation of Garg et al. (IQ-Learn, arXiv 2106.12142); Cundy & Ermon (arXiv
2306.05426) print chi-square and its mixture only. The functions take tensors; torch is not
imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from seqmatch.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor

Behaviour = Literal["mass-covering", "mode-seeking", "between"]


@dataclass(frozen=True)
class Divergence:
    """One divergence, all that forms, documents and losses need of it."""

    name: str
    title: str
    sentence: str
    """What it asks of the model, in one plain sentence."""
    formula: str
    """The divergence, in LaTeX."""
    generator_formula: str
    """f(u), in LaTeX."""
    phi_formula: str
    """phi(x), in LaTeX."""
    generator: Callable[[Tensor], Tensor]
    """f(u) for u > 0."""
    r_star: Callable[[Tensor], Tensor]
    """The best reward, -f'(u), of a density ratio u > 0."""
    second_derivative: float
    """f''(1): for small alpha the loss adds alpha d^2 / (2 f''(1)) to the likelihood."""
    domain_minimum: float
    """phi is defined above this; -inf for all x."""
    linear_below: float
    """Where the linear extension starts; -inf for none."""
    phi_inside: Callable[[Tensor], Tensor]
    """phi(x) for x >= linear_below."""
    phi_prime_inside: Callable[[Tensor], Tensor]
    """phi'(x) for x >= linear_below."""
    behaviour: Behaviour
    needs: str
    """What training needs beside demonstrations, in words."""
    source: str
    uses_mixture: bool = False
    """Whether the penalty (alpha/4) d^2 on the policy's own rollouts is added."""

    def phi(self, x: Tensor) -> Tensor:
        """Returns the concave function of a reward, extended linearly below `linear_below`.

        phi(x) = phi(b) + phi'(b) (x - b) for x < b = linear_below. Finite for every finite x, with
        finite gradients. Elementwise; x is alpha times a soft temporal difference, in nats.
        """
        if self.linear_below == -math.inf:
            return self.phi_inside(x)
        inside = x.clamp(min=self.linear_below)
        slope = self.phi_prime_inside(x.new_full((), self.linear_below))
        return self.phi_inside(inside) + slope * (x - inside)

    def phi_prime(self, x: Tensor) -> Tensor:
        """Returns the derivative of `phi`, constant below `linear_below`."""
        if self.linear_below == -math.inf:
            return self.phi_prime_inside(x)
        return self.phi_prime_inside(x.clamp(min=self.linear_below))


_DEMONSTRATIONS_ONLY = "demonstrations only"
_DEMONSTRATIONS_AND_ROLLOUTS = "demonstrations and sampled answers of the policy"
_IQ_LEARN = "Garg et al. 2021 (IQ-Learn), phi(x) = -f*(-x) with a normalised generator"

_FORWARD_KL = Divergence(
    name="forward_kl",
    title="Forward KL",
    sentence="The model must give probability to everything that the demonstrations do.",
    formula=r"\mathrm{KL}(\rho_{\text{data}} \,\|\, \rho_\theta)",
    generator_formula=r"f(u) = -\log u + u - 1",
    phi_formula=r"\varphi(x) = \log(1 + x)",
    generator=lambda u: u - 1 - u.log(),
    r_star=lambda u: 1 / u - 1,
    second_derivative=1.0,
    domain_minimum=-1.0,
    linear_below=-0.9,
    phi_inside=lambda x: x.log1p(),
    phi_prime_inside=lambda x: 1 / (1 + x),
    behaviour="mass-covering",
    needs=_DEMONSTRATIONS_ONLY,
    source=_IQ_LEARN,
)

_REVERSE_KL = Divergence(
    name="reverse_kl",
    title="Reverse KL",
    sentence="The model must not do what the demonstrations never do, even if it leaves some out.",
    formula=r"\mathrm{KL}(\rho_\theta \,\|\, \rho_{\text{data}})",
    generator_formula=r"f(u) = u \log u - u + 1",
    phi_formula=r"\varphi(x) = 1 - e^{-x}",
    generator=lambda u: u * u.log() - u + 1,
    r_star=lambda u: -u.log(),
    second_derivative=1.0,
    domain_minimum=-math.inf,
    linear_below=-5.0,
    phi_inside=lambda x: -((-x).expm1()),
    phi_prime_inside=lambda x: (-x).exp(),
    behaviour="mode-seeking",
    needs=_DEMONSTRATIONS_ONLY,
    source=_IQ_LEARN + "; IQ-Learn's code calls it kl_fix",
)

_JENSEN_SHANNON = Divergence(
    name="jensen_shannon",
    title="Jensen-Shannon",
    sentence="Model and demonstrations should be hard to tell apart by a classifier.",
    formula=r"2\,\mathrm{JS} = \mathrm{KL}(\rho_{\text{data}} \,\|\, m)"
    r" + \mathrm{KL}(\rho_\theta \,\|\, m),\quad m = \tfrac12(\rho_{\text{data}} + \rho_\theta)",
    generator_formula=r"f(u) = u \log u - (u + 1) \log \tfrac{u + 1}{2}",
    phi_formula=r"\varphi(x) = \log(2 - e^{-x})",
    generator=lambda u: u * u.log() - (u + 1) * ((u + 1) / 2).log(),
    r_star=lambda u: -(2 * u / (1 + u)).log(),
    second_derivative=0.5,
    domain_minimum=-math.log(2.0),
    linear_below=-0.6,
    phi_inside=lambda x: (-((-x).expm1())).log1p(),
    phi_prime_inside=lambda x: (-x).exp() / (2 - (-x).exp()),
    behaviour="between",
    needs=_DEMONSTRATIONS_ONLY,
    source=_IQ_LEARN,
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
    generator=lambda u: (u - 1) ** 2,
    r_star=lambda u: 2 * (1 - u),
    second_derivative=2.0,
    domain_minimum=-math.inf,
    linear_below=-math.inf,
    phi_inside=lambda x: x - x * x / 4,
    phi_prime_inside=lambda x: 1 - x / 2,
    behaviour="mode-seeking",
    needs=_DEMONSTRATIONS_ONLY,
    source="Cundy & Ermon 2023 (SequenceMatch), section on chi-square; Garg et al. 2021",
)

_CHI_SQUARE_NEYMAN = Divergence(
    name="chi_square_neyman",
    title="Chi-square (Neyman)",
    sentence="Pearson's with the roles exchanged: leaving out what is demonstrated costs most.",
    formula=r"\mathbb{E}_{\rho_\theta}\left[(\rho_{\text{data}} / \rho_\theta - 1)^2\right]",
    generator_formula=r"f(u) = \tfrac{(1 - u)^2}{u}",
    phi_formula=r"\varphi(x) = 2\sqrt{1 + x} - 2",
    generator=lambda u: (1 - u) ** 2 / u,
    r_star=lambda u: u**-2 - 1,
    second_derivative=2.0,
    domain_minimum=-1.0,
    linear_below=-0.9,
    phi_inside=lambda x: 2 * x / (1 + (1 + x).sqrt()),
    phi_prime_inside=lambda x: (1 + x).rsqrt(),
    behaviour="mass-covering",
    needs=_DEMONSTRATIONS_ONLY,
    source=_IQ_LEARN,
)

_CHI_SQUARE_MIXTURE = Divergence(
    name="chi_square_mixture",
    title="Chi-square mixture",
    sentence="Chi-square against the average of model and demonstrations: bounded, so it stays "
    "finite where the model leaves the data.",
    formula=r"2\,\chi^2\!\left(\rho_{\text{data}} \,\|\, m\right) ="
    r" \sum \frac{(\rho_{\text{data}} - \rho_\theta)^2}{\rho_{\text{data}} + \rho_\theta},"
    r"\quad m = \tfrac12(\rho_{\text{data}} + \rho_\theta)",
    generator_formula=r"f(u) = \tfrac{(u - 1)^2}{u + 1}",
    phi_formula=r"\varphi(x) = x - \tfrac{x^2}{4} \text{ on data, }"
    r" -\tfrac{x^2}{4} \text{ on rollouts}",
    generator=lambda u: (u - 1) ** 2 / (u + 1),
    # Not -f'(u): the rollouts' own penalty moves the optimum, 1 - r/2 - u r/2 = u.
    r_star=lambda u: 2 * (1 - u) / (1 + u),
    second_derivative=1.0,
    domain_minimum=-math.inf,
    linear_below=-math.inf,
    phi_inside=_CHI_SQUARE_PEARSON.phi_inside,
    phi_prime_inside=_CHI_SQUARE_PEARSON.phi_prime_inside,
    behaviour="between",
    needs=_DEMONSTRATIONS_AND_ROLLOUTS,
    source="Cundy & Ermon 2023 (SequenceMatch), chi-square mixture; its coefficient 1/4 is derived",
    uses_mixture=True,
)

_SQUARED_HELLINGER = Divergence(
    name="squared_hellinger",
    title="Squared Hellinger",
    sentence="Compares square roots of probabilities: symmetric, bounded and mild on rare events.",
    formula=r"\sum \left(\sqrt{\rho_{\text{data}}} - \sqrt{\rho_\theta}\right)^2",
    generator_formula=r"f(u) = (\sqrt{u} - 1)^2",
    phi_formula=r"\varphi(x) = \tfrac{x}{1 + x}",
    generator=lambda u: (u.sqrt() - 1) ** 2,
    r_star=lambda u: u**-0.5 - 1,
    second_derivative=0.5,
    domain_minimum=-1.0,
    linear_below=-0.9,
    phi_inside=lambda x: x / (1 + x),
    phi_prime_inside=lambda x: (1 + x) ** -2,
    behaviour="between",
    needs=_DEMONSTRATIONS_ONLY,
    source=_IQ_LEARN,
)

DIVERGENCES: Mapping[str, Divergence] = {
    divergence.name: divergence
    for divergence in (
        _CHI_SQUARE_MIXTURE,
        _FORWARD_KL,
        _REVERSE_KL,
        _JENSEN_SHANNON,
        _CHI_SQUARE_PEARSON,
        _CHI_SQUARE_NEYMAN,
        _SQUARED_HELLINGER,
    )
}


def get_divergence(name: str) -> Divergence:
    """Returns the registered divergence.

    Raises:
        UnknownNameError: No divergence has this name; the message lists those that exist.
    """
    if name not in DIVERGENCES:
        raise unknown_name("divergence", name, DIVERGENCES)
    return DIVERGENCES[name]
