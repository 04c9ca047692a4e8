"""Adversarial imitation with an exact discriminator: the policy step's own code, on all answers.

At each step the discriminator is the best there is for the policy as it stands,

    h(s, a) = log rho_data(s, a) - log rho_model(s, a)

by enumeration, and counts as fixed; the policy then follows the policy gradient of R(h) through
`seqmatch.policy_gradient`. Level `token` minimises the divergence of occupancy measures, level
`trajectory` that of laws of whole answers, whose log ratio is h at the stop token.

Without backspace the batch is every answer with its probability. With it there are infinitely many,
and the batch has a row for each action of each state that is not terminal, weighed by its
discounted visits, with the return that a linear solve expects after it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from seqmatch.exact.choices import AdversarialLevel
from seqmatch.exact.occupancy import action_values, discounted_visits, state_action_occupancy
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import WeightedTrajectories, enumerate_answers, values_along
from seqmatch.policy_gradient import Reward, answer_returns, reinforce_surrogate
from seqmatch.types import StateActionValues

SFT_STEPS = 10
SFT_RATE = 0.5
"""The start: so many steps of gradient descent on supervised fine-tuning, which is then not done,
so that the policy differs from the optimum of likelihood and from seed to seed."""


@dataclass(frozen=True)
class Adversary:
    """An exact discriminator at one level, and the reward that the policy gets for its h."""

    data: Float[Tensor, "state action"]
    """rho_data, absorbed mass included."""
    law: Float[Tensor, " terminal"]
    """The data's law of whole answers."""
    discount: float
    level: AdversarialLevel
    reward: Reward

    def surrogate(self, policy: ExactPolicy) -> Float[Tensor, ""]:
        """Computes a number whose gradient is minus the policy gradient at this policy.

        Normalised as the measures are, with 1 - gamma at level `token`, so that with the reward of
        a divergence it is the divergence's own gradient. The value means nothing.
        """
        sampled, returns = self._batch(policy)
        loss = reinforce_surrogate(sampled, returns, self._discount)
        return (1.0 - self.discount) * loss if self.level == "token" else loss

    @property
    def _discount(self) -> float:
        """The gamma of occupancy measures; laws of whole answers do not discount."""
        return self.discount if self.level == "token" else 1.0

    def _batch(self, policy: ExactPolicy) -> tuple[StateActionValues, Tensor]:
        log_probs = policy.log_probs().detach()
        if policy.chain.has_backspace:
            return self._transitions(policy, log_probs)
        answers = all_answers(policy.chain)
        law = output_law(policy.chain, log_probs)
        answers = WeightedTrajectories(answers.states, answers.labels, answers.num_actions, law)
        h = self._log_ratio(policy.chain, log_probs)[answers.states[:, :-1], answers.labels]
        returns = answer_returns(h, answers.is_action, self.reward, self.level, self._discount)
        # An answer whose probability is below every float has an infinite h, and adds nothing.
        returns = returns.masked_fill((law == 0.0)[:, None], 0.0)
        return values_along(policy, answers), returns

    def _log_ratio(self, chain: TokenChain, log_probs: Tensor) -> Tensor:
        """h(s, a); -inf where the demonstrator never is."""
        return self.data.log() - state_action_occupancy(chain, log_probs, self.discount).log()

    def _transitions(
        self, policy: ExactPolicy, log_probs: Tensor
    ) -> tuple[StateActionValues, Tensor]:
        """Every action of every state as a row of its own, and Q(s, a) as its return."""
        chain = policy.chain
        q = action_values(chain, log_probs, *self._rewards(chain, log_probs), self._discount)
        visits = discounted_visits(chain, log_probs, self._discount)
        can_act = chain.exists & ~chain.is_terminal[:, None] & (log_probs.exp() > 0)
        states, actions = can_act.nonzero(as_tuple=True)
        sampled = StateActionValues(
            chosen_q=policy.logits()[states, actions, None],
            values=policy.values()[torch.stack([states, chain.next_state[states, actions]], dim=1)],
            is_action=torch.ones(len(states), 1, dtype=torch.bool),
            weights=visits[states] * log_probs[states, actions].exp(),
        )
        return sampled, q[states, actions, None]

    def _rewards(self, chain: TokenChain, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """r(s, a), and all that is gained from each terminal state on."""
        if self.level == "token":
            h = self._log_ratio(chain, log_probs).masked_fill(~chain.exists, 0.0)
            rewards = self.reward(h)
            return rewards, rewards[:, 0] / (1.0 - self._discount)
        h = self.law.log() - output_law(chain, log_probs).log()
        ends = torch.zeros(chain.num_states, dtype=torch.float64)
        ends[chain.terminal] = self.reward(h)
        return torch.zeros_like(log_probs), ends


def limited_square_potential(
    p: Float[Tensor, "*shape"], q: Float[Tensor, "*shape"], limit: float
) -> Float[Tensor, ""]:
    """Computes what the original FAIRL reward descends with an exact discriminator.

    The gradient with respect to q is h e^h at h = log p/q clamped to +-c, c the limit:

        sum of  -p h^2 / 2                                     |log p/q| <= c
                -p c^2 / 2 + c e^c (q - p e^{-c})               log p/q > c
                -p c^2 / 2 - c e^{-c} (q - p e^c)               log p/q < -c

    so that it *raises* E_data[h^2]. Derived.

    Args:
        p: The data's measure.
        q: The model's.
        limit: c, in nats.
    """
    in_data = p > 0
    largest = math.exp(limit)
    outside = q[~in_data].sum()
    p, q = p[in_data], q[in_data]
    low, high = p / largest, p * largest
    h = p.log() - torch.minimum(torch.maximum(q, low), high).log()
    below = limit * largest * (q - low).clamp(max=0.0)
    above = limit / largest * (q - high).clamp(min=0.0)
    inside: Tensor = (below - above - p * h.square() / 2).sum()
    return inside - limit / largest * outside


def warm_up(policy: ExactPolicy, loss: Callable[[ExactPolicy], Tensor]) -> None:
    """Takes a few steps of gradient descent on supervised fine-tuning, in place.

    Args:
        policy: At its random start.
        loss: The loss of supervised fine-tuning on all demonstrations.
    """
    parameters = list(policy.parameters())
    for _ in range(SFT_STEPS):
        gradients = torch.autograd.grad(loss(policy), parameters, materialize_grads=True)
        with torch.no_grad():
            for each, gradient in zip(parameters, gradients, strict=True):
                each.sub_(SFT_RATE * gradient)


@lru_cache(maxsize=8)
def all_answers(chain: TokenChain) -> WeightedTrajectories:
    """Lists every answer of a chain without backspace, in the order of `chain.terminal`.

    The weights are those of the uniform policy.
    """
    uniform = torch.zeros(chain.exists.shape, dtype=torch.float64)
    return enumerate_answers(chain, uniform.masked_fill(~chain.exists, -torch.inf).log_softmax(-1))
