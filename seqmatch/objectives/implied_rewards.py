"""What a divergence makes of the implied rewards r = alpha d: on demonstrations and on rollouts.

All functions take rewards, elementwise, and give rewards; a loss divides by alpha. With a limit c
(`reward_clip`) each is continued linearly beyond |r| = c, once differentiable: a far-off reward
still has a gradient, of constant size.

Source: phi and the squares as in `seqmatch.divergences`; the limit is ours (docs/method.md,
"Limited rewards"): LS-IQ clamps the target gamma V(s'), whose gradient then vanishes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqmatch.divergences import Divergence

if TYPE_CHECKING:
    from torch import Tensor

MIXTURE_COEFFICIENT = 0.25
"""Of r^2 in E_P[r - r^2/4] - E_Q[r + r^2/4], whose supremum is the chi-square mixture."""


@dataclass(frozen=True)
class ImpliedRewards:
    """The penalties of one objective, as functions of rewards."""

    divergence: Divergence
    mixture_data: float
    """c_E, the coefficient of r^2 on demonstrations; read where the divergence has a mixture."""
    mixture_model: float
    """c_pi, the coefficient of r^2 on rollouts; read where the divergence has a mixture."""
    limit: float
    """|r| beyond which everything is linear; 0 for none."""

    def data_phi(self, rewards: Tensor) -> Tensor:
        """Returns phi(r), whose mean over demonstrations is maximised.

        A mixture's phi has c_E r^2 in the place of r^2/4.
        """
        return self._continued(self._phi, self._phi_prime, rewards)

    def model_square(self, rewards: Tensor) -> Tensor:
        """Returns c_pi r^2, the penalty on rollouts; 0 where the divergence has no mixture."""
        weight = self.mixture_model if self.divergence.uses_mixture else 0.0
        return weight * self._continued(lambda r: r.square(), lambda r: 2.0 * r, rewards)

    @property
    def _more_square(self) -> float:
        if not self.divergence.uses_mixture:
            return 0.0
        return MIXTURE_COEFFICIENT - self.mixture_data

    def _phi(self, rewards: Tensor) -> Tensor:
        found = self.divergence.phi(rewards)
        return found + self._more_square * rewards.square() if self._more_square else found

    def _phi_prime(self, rewards: Tensor) -> Tensor:
        found = self.divergence.phi_prime(rewards)
        return found + 2.0 * self._more_square * rewards if self._more_square else found

    def _continued(
        self,
        function: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor], Tensor],
        rewards: Tensor,
    ) -> Tensor:
        """The function within the limit, its tangent beyond."""
        if not self.limit:
            return function(rewards)
        inside = rewards.clamp(-self.limit, self.limit)
        return function(inside) + slope(inside).detach() * (rewards - inside)
