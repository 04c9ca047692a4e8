"""The objectives a second time: from occupancy measures, without the product's loss code.

Written anew from docs/method.md so that the two can be held against each other. A sum over
trajectories of gamma^t g(s_t, y_t, s_{t+1}) is a sum over transitions by their discounted mass;
what an answer's absorbing state adds weighs gamma^N, its mass. SequenceMatch stands here as the
paper's J, with V(s_0) in place of the value sums, not as discounted likelihood plus penalties.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmatch.divergences import Divergence
from seqmatch.exact.demonstrator import Transitions
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.token_chain import TokenChain


@dataclass(frozen=True)
class Scales:
    """How SequenceMatch weighs entropy, time and the two squares of a mixture."""

    alpha: float
    discount: float
    data_square: float = 0.25
    """c_E: a mixture's phi is x - c_E x^2. Read where the divergence has a mixture."""
    model_square: float = 0.25
    """c_pi, of the squared reward on the model's own samples. Read alike."""


def policy_transitions(chain: TokenChain, log_probs: Tensor, discount: float) -> Transitions:
    """Returns the discounted mass of the transitions of a policy's own samples, and of its ends."""
    rho = state_action_occupancy(chain, log_probs, discount)
    states, actions = (chain.exists & ~chain.is_terminal[:, None]).nonzero(as_tuple=True)
    return Transitions(
        states=states,
        labels=actions,
        next_states=chain.next_state[states, actions],
        mass=rho[states, actions] / (1.0 - discount),
        absorbed=rho.sum(dim=1) * chain.is_terminal,
    )


def likelihood(policy: ExactPolicy, data: Transitions) -> Tensor:
    """Computes - sum of mass(s, y) log p(y|s)."""
    return -(data.mass * policy.log_probs()[data.states, data.labels]).sum()


def weighted_by_probability(policy: ExactPolicy, data: Transitions) -> Tensor:
    """Computes - sum of mass(s, y) sg[p(y|s)] log p(y|s), the probability as a fixed weight."""
    log_probs = policy.log_probs()[data.states, data.labels]
    return -(data.mass * log_probs.exp().detach() * log_probs).sum()


def probability(policy: ExactPolicy, data: Transitions) -> Tensor:
    """Computes - sum of mass(s, y) p(y|s): it has the gradient of `weighted_by_probability`."""
    return -(data.mass * policy.log_probs()[data.states, data.labels].exp()).sum()


def tempered_likelihood(policy: ExactPolicy, data: Transitions, temperature: float) -> Tensor:
    """Computes sum of mass(s, y) [beta logsumexp(l(.|s)/beta) - l(y|s)], beta the temperature."""
    logits = policy.logits()
    tempered = temperature * (logits / temperature).logsumexp(dim=-1)
    return (data.mass * (tempered[data.states] - logits[data.states, data.labels])).sum()


def sequence_match(
    policy: ExactPolicy,
    data: Transitions,
    model: Transitions | None,
    divergence: Divergence,
    scales: Scales,
) -> Tensor:
    """Computes minus J, the expectations being sums over discounted mass.

        -J = V(s_0) - { E_data[phi(r)] - c_pi E_model[r^2] } / alpha

    with r = alpha (l(y|s) - gamma V(s')), and alpha (1 - gamma) V(s) at an absorbing state, where
    1 / (1 - gamma) visits follow.

    Args:
        policy: Gives l and V.
        data: Of demonstrations, discounted by the same gamma.
        model: Of the policy's own samples; None where the divergence has no mixture.
        divergence: Gives phi; a mixture's has c_E in the place of 1/4.
        scales: alpha, gamma and the coefficients of the squares.
    """
    values, logits = policy.values(), policy.logits()

    def rewards(along: Transitions) -> tuple[Tensor, Tensor]:
        ahead = scales.discount * values[along.next_states]
        ends = (1.0 - scales.discount) * values
        here = logits[along.states, along.labels] - ahead
        return scales.alpha * here, scales.alpha * ends[along.absorbed > 0]

    def total(along: Transitions, here: Tensor, ends: Tensor) -> Tensor:
        absorbed = along.absorbed[along.absorbed > 0] / (1.0 - scales.discount)
        return (along.mass * here).sum() + (absorbed * ends).sum()

    def phi(reward: Tensor) -> Tensor:
        if divergence.uses_mixture:
            return reward - scales.data_square * reward.square()
        return divergence.phi(reward)

    here, ends = rewards(data)
    gained = total(data, phi(here), phi(ends))
    if model is not None:
        here, ends = rewards(model)
        gained = gained - scales.model_square * total(model, here.square(), ends.square())
    return values[0] - gained / scales.alpha


def backspace_calibration(policy: ExactPolicy, data: Transitions, margin: float) -> Tensor:
    """Computes the sum of mass(s, y) KL(Ber(p(bkspc|s)) || Ber(b)) over states that can delete.

    b is 1 - margin where y is backspace, else margin.
    """
    chain = policy.chain
    counts = chain.can_delete[data.states]
    states, labels, mass = data.states[counts], data.labels[counts], data.mass[counts]
    log_p = policy.log_probs()
    deletes = log_p[states, chain.backspace]
    stays = log_p[states, : chain.vocab].logsumexp(dim=-1)
    is_asked = labels == chain.backspace
    high, low = torch.tensor([math.log1p(-margin), math.log(margin)], dtype=mass.dtype)
    log_b = torch.where(is_asked, high, low)
    log_rest = torch.where(is_asked, low, high)
    return (mass * (deletes.exp() * (deletes - log_b) + stays.exp() * (stays - log_rest))).sum()
