"""A slowly following copy of the trained weights, which gives the values of next states.

In the temporal difference l(y_t|s_t) - gamma V(s_{t+1}) both terms move with every update. With a
target network the second one comes from an average of the weights and has no gradient.

Source: Garg et al. (IQ-Learn), `use_target`, `soft_update` with critic_tau = 1 - decay; Al-Hafez et
al. (LS-IQ), `use_target` with tau. Both are off by default there as here. What that does to the
fixed point is in docs/method.md, "Target network".
"""

from typing import TYPE_CHECKING

import torch

from seqmatch.held_weights import HeldWeights
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.dispatch import target_decay
from seqmatch.policy import Policy
from seqmatch.types import SinglePassBatch

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def make_target(policy: Policy, objective: ObjectiveConfig) -> "TargetNetwork | None":
    """Returns a target network at the policy's weights; None where the objective has none."""
    decay = target_decay(objective)
    return TargetNetwork(policy, decay) if decay else None


class TargetNetwork(HeldWeights):
    """An exponential moving average of a policy's trained weights.

        w_target <- decay w_target + (1 - decay) w        after each update

    It starts at the policy's weights.
    """

    def __init__(self, policy: Policy, decay: float) -> None:
        """Copies the trained weights.

        Args:
            policy: The policy that is followed.
            decay: In (0, 1); the average spans about 1 / (1 - decay) updates.
        """
        super().__init__(policy)
        self.decay = decay

    @torch.no_grad()
    def follow(self, policy: Policy) -> None:
        """Moves the average towards the policy's weights; called once after each update."""
        for name, weight in policy.trainable_parameters().items():
            self.weights[name].lerp_(weight, 1.0 - self.decay)

    @torch.no_grad()
    def next_values(self, policy: Policy, batch: SinglePassBatch) -> "Float[Tensor, 'batch time']":
        """Returns V(s_{t+1}) under the average, for t < N; 0 beyond.

        One forward pass. The policy's weights are exchanged meanwhile, so it must come before the
        policy's own pass whose gradient is wanted.
        """
        with self.in_place(policy):
            return policy.state_action_values(batch).values[:, 1:]
