"""What a batch from a round needs beside the policy's values: rewards, advantages, old numbers.

Called between the policy's forward pass and its loss, so that a discriminator learns from the very
hidden states that the policy's pass has computed, and pays for no pass of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from seqmatch.discriminators.player import DiscriminatorPlayer, SeenPass
from seqmatch.objectives import AdversarialConfig, ObjectiveConfig, PolicyStepConfig
from seqmatch.objectives.dispatch import (
    adversarial_config,
    answers_per_prompt,
    policy_step_config,
)
from seqmatch.policy import Policy
from seqmatch.policy_gradient import (
    answer_returns,
    grpo_advantages,
    leave_one_out_returns,
    limited,
    reward_function,
    rloo_advantages,
    whitened,
)
from seqmatch.rounds import Numbers, RoundAnswer, padded

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int


@dataclass(frozen=True)
class PassTerms:
    """Fields of `StateActionValues` for the two sides of one pass."""

    data: dict[str, Tensor] = field(default_factory=dict)
    rollouts: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> "PassTerms":
        """Returns the same on a device."""
        data, rollouts = (
            {name: each.to(device) for name, each in side.items()}
            for side in (self.data, self.rollouts)
        )
        return PassTerms(data, rollouts)


@dataclass(frozen=True)
class BatchTerms:
    """What was found for a batch: its passes' terms, and what is reported."""

    passes: list[PassTerms]
    metrics: dict[str, float]


@dataclass(frozen=True)
class RoundFindings:
    """What was found for the answers of a batch, however it goes through the policy."""

    advantages: "Float[Tensor, 'batch time'] | None"
    metrics: dict[str, float]


Complete = Callable[[Sequence[SeenPass]], BatchTerms]


def findings_of_round(
    seen: Sequence[SeenPass],
    *,
    policy: Policy,
    objective: ObjectiveConfig,
    answers: Sequence[RoundAnswer],
    player: DiscriminatorPlayer | None,
    older: Sequence[SeenPass],
    step: int,
) -> RoundFindings:
    """Returns what the answers of a batch are worth, and what is reported.

    A discriminator learns from the batch first and is asked afterwards.

    Args:
        seen: The passes of the batch, in order.
        policy: The policy.
        objective: The objective.
        answers: The rollouts of the batch, in order, passes together.
        player: The discriminator, where the objective has one.
        older: Answers of earlier rounds, for the discriminator alone.
        step: The optimiser step.
    """
    metrics: dict[str, float] = {}
    settings = policy_step_config(objective)
    is_action = _together([one.values.is_action[len(one.demonstrated) :] for one in seen])
    returns: Tensor | None = None
    adversarial = adversarial_config(objective)
    if adversarial is not None and player is not None:
        metrics |= player.learn(policy, seen, older, step)
        h = _together(player.judge(policy, seen))
        returns = adversarial_returns(h, is_action, adversarial)
    elif settings is not None:
        like = seen[0].values.chosen_q.new_empty(is_action.shape)
        returns = padded([answer.returns for answer in answers], like)
    advantages = None
    if settings is not None and returns is not None:
        metrics["train/reward"] = float(returns[:, 0].mean())
        groups = torch.arange(len(answers), device=returns.device) // answers_per_prompt(objective)
        is_whole = adversarial is not None and adversarial.level == "trajectory"
        advantages = advantages_of(returns, is_action, groups, settings, is_whole=is_whole)
    return RoundFindings(advantages, metrics)


def terms_of_passes(
    seen: Sequence[SeenPass], answers: Sequence[RoundAnswer], found: RoundFindings
) -> BatchTerms:
    """Returns what was found as the terms of these passes of the batch."""
    return BatchTerms(_per_pass(seen, answers, found.advantages), found.metrics)


def adversarial_returns(
    h: "Float[Tensor, 'batch time']",
    is_action: "Bool[Tensor, 'batch time']",
    objective: AdversarialConfig,
) -> "Float[Tensor, 'batch time']":
    """Computes the returns of answers under a discriminator's h.

    At the level `token` they are multiplied by 1 - gamma, so that the gradient of the policy step
    is that of the divergence of normalised occupancy measures, of the size that it has at the other
    levels. h is limited, and what has an exponential is bounded with it.

    Source: `policy_gradient.answer_returns`; docs/method.md, "Adversarial imitation".
    """
    reward = limited(reward_function(objective.reward_name, objective.divergence_order))
    returns = answer_returns(h, is_action, reward, objective.level, objective.discount)
    return returns * (1.0 - objective.discount) if objective.level == "token" else returns


def advantages_of(
    returns: "Float[Tensor, 'batch time']",
    is_action: "Bool[Tensor, 'batch time']",
    groups: "Int[Tensor, ' batch']",
    settings: PolicyStepConfig,
    *,
    is_whole: bool,
) -> "Float[Tensor, 'batch time']":
    """Computes advantages: returns less a baseline, whitened if wanted; 0 beyond the last action.

    Args:
        returns: G_t of each action.
        is_action: True for t < N.
        groups: Number of the prompt of each answer, from 0.
        settings: The baseline, and whether to whiten.
        is_whole: Whether all actions of an answer have its one reward as return; the baseline is
            then made of whole answers, else of the others that still run at the same time.
    """
    match settings.baseline:
        case "none":
            found = returns.masked_fill(~is_action, 0.0)
        case "rloo" if not is_whole:
            found = leave_one_out_returns(returns, is_action, groups)
        case _:
            of_answers = rloo_advantages if settings.baseline == "rloo" else grpo_advantages
            each = of_answers(returns[:, 0], groups)
            found = each[:, None].expand_as(returns).masked_fill(~is_action, 0.0)
    return whitened(found, is_action) if settings.whiten else found


def _per_pass(
    seen: Sequence[SeenPass], answers: Sequence[RoundAnswer], advantages: Tensor | None
) -> list[PassTerms]:
    found, at = [], 0
    for one in seen:
        chosen = one.values.chosen_q
        rows = len(one.demonstrated)
        here = answers[at : at + len(chosen) - rows]
        at += len(here)
        rollouts = _filled(
            chosen,
            {
                "old_log_probs": [answer.old_log_probs for answer in here],
                "reference_log_probs": [answer.reference_log_probs for answer in here],
            },
        )
        if advantages is not None:
            rollouts["advantages"] = _as_wide(advantages[at - len(here) : at], chosen.shape[1])
        data = _filled(
            chosen, {"old_log_probs": [answer.demonstration_log_probs for answer in here]}
        )
        found.append(PassTerms(data, rollouts))
    return found


def _as_wide(rows: Tensor, width: int) -> Tensor:
    """Rows cut or padded with 0 to a width; what is cut off stands beyond their last action."""
    return pad(rows[:, :width], (0, max(width - rows.shape[1], 0)))


def _filled(like: Tensor, rows: dict[str, list[Numbers]]) -> dict[str, Tensor]:
    """Tensors of those numbers that are there."""
    return {name: padded(each, like) for name, each in rows.items() if any(each)}


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Rows of all passes, padded to the longest."""
    width = max(part.shape[1] for part in parts)
    padded_parts: list[Any] = [pad(part, (0, width - part.shape[1])) for part in parts]
    return torch.cat(padded_parts)
