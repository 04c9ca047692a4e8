"""One divergence: its functions, and all that forms, documents and losses say of it.

Three functions are given in closed form: f of the log ratio, phi with its derivative, and the
policy's reward. The others follow. They are written in log u, or in h = -log u, so that value and
gradient are right in float32 for |log u| <= 30 wherever they are defined.

Where phi has a pole or grows exponentially it is extended linearly: concave, C1 and finite for
every x, so that a far-off logit still has the right direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Behaviour = Literal["mass-covering", "mode-seeking", "between"]
Family = Literal["sequence_match", "adversarial", "exact"]
"""What can minimise a divergence: the policy's own logits, a discriminator, or exact sums."""


@dataclass(frozen=True)
class Divergence:
    """One divergence of Q (model) from P (data), with u = Q/P and h = log(P/Q)."""

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
    reward_formula: str
    """R(h), the reward of a policy beside a discriminator, in LaTeX."""
    generator_of_log_ratio: Callable[[Tensor], Tensor]
    """f(e^w) of w = log u."""
    policy_reward: Callable[[Tensor], Tensor]
    """R(h) = -f'(e^{-h}): the reward whose policy gradient is minus the gradient of D. With the
    generator in the other argument, f_B(v) = v f(1/v), it is v f_B'(v) - f_B(v) at v = e^h."""
    second_derivative: float | None
    """f''(1): for small alpha the loss adds alpha d^2 / (2 f''(1)) to the likelihood. None where
    f has a corner."""
    at_zero: float
    """f(0), the price of each unit of data that the model leaves out; may be inf."""
    at_infinity: float
    """The limit of f(u)/u, the price of each unit of the model outside the data; may be inf."""
    domain_minimum: float
    """phi is defined above this; -inf for all x."""
    linear_below: float
    """Where the linear extension starts; -inf for none."""
    phi_inside: Callable[[Tensor], Tensor]
    """phi(x) for linear_below <= x <= linear_above."""
    phi_prime_inside: Callable[[Tensor], Tensor]
    """phi'(x) for linear_below <= x <= linear_above."""
    behaviour: Behaviour
    is_symmetric: bool
    """Whether D is the same with model and data exchanged."""
    needs: str
    """What training needs beside demonstrations, in words."""
    source: str
    linear_above: float = math.inf
    """Where the linear extension starts upwards; inf for none."""
    left_out: Mapping[Family, str] = field(default_factory=dict)
    """The families that cannot use it, each with the reason in words."""
    uses_mixture: bool = False
    """Whether the policy's own rollouts get a square of the reward, so that phi alone is not
    -f*(-x) but the part on data."""
    mixture_reward: Callable[[Tensor], Tensor] | None = None
    """With a mixture: the best reward of w = log u, which is then not -f'(u)."""
    mixture_conjugate: Callable[[Tensor], Tensor] | None = None
    """With a mixture: f*(t), which does not follow from phi."""
    order: float | None = None
    """The parameter of a family of divergences; None for a single one."""
    with_order: Callable[[float], Divergence] | None = None
    """Makes the member of this order."""

    @property
    def has_order(self) -> bool:
        """True where the entry stands for a family of divergences with one parameter."""
        return self.with_order is not None

    @property
    def families(self) -> frozenset[Family]:
        """Returns what can minimise it; `left_out` has the reasons for the others."""
        families: tuple[Family, ...] = get_args(Family)
        return frozenset(family for family in families if family not in self.left_out)

    def generator(self, u: Tensor) -> Tensor:
        """Returns f(u) for a density ratio u >= 0."""
        is_positive = u > 0
        safe = u.where(is_positive, u.new_ones(()))
        return self.generator_of_log_ratio(safe.log()).where(
            is_positive, u.new_full((), self.at_zero)
        )

    def generator_prime(self, u: Tensor) -> Tensor:
        """Returns f'(u) for a density ratio u > 0."""
        return -self.policy_reward(-u.log())

    def r_star(self, u: Tensor) -> Tensor:
        """Returns the best reward of SequenceMatch's objective at a density ratio u > 0.

        r* = -f'(u). With a mixture the rollouts' own square moves it: the root of
        phi'(r) = u (1 + r/2).
        """
        if self.mixture_reward is not None:
            return self.mixture_reward(u.log())
        return self.policy_reward(-u.log())

    def conjugate(self, t: Tensor) -> Tensor:
        """Returns f*(t) = sup over u of [t u - f(u)], in closed form.

        That is -phi(-t), for t between the values of f' at `linear_below` and `linear_above`;
        beyond them it is linear as phi is. A mixture's is its own closed form, for t < 1.
        """
        if self.mixture_conjugate is not None:
            return self.mixture_conjugate(t)
        return -self.phi(-t)

    def phi(self, x: Tensor) -> Tensor:
        """Returns the concave function of a reward, extended linearly.

        phi(x) = phi(b) + phi'(b) (x - b) for x < b = linear_below, and alike for x > linear_above.
        Finite for every finite x, with finite gradients. Elementwise; x is alpha times a soft
        temporal difference, in nats.
        """
        if not self._is_extended:
            return self.phi_inside(x)
        inside = self._inside(x)
        return self.phi_inside(inside) + self.phi_prime_inside(inside.detach()) * (x - inside)

    def phi_prime(self, x: Tensor) -> Tensor:
        """Returns the derivative of `phi`, constant where phi is linear."""
        return self.phi_prime_inside(self._inside(x) if self._is_extended else x)

    @property
    def _is_extended(self) -> bool:
        return self.linear_below != -math.inf or self.linear_above != math.inf

    def _inside(self, x: Tensor) -> Tensor:
        return x.clamp(min=self.linear_below, max=self.linear_above)
