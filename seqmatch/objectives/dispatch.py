"""What the rest of the program asks of an objective; the only module that tells the members apart.

A new objective is its module, a name in the union of `seqmatch.objectives`, an entry of the
catalogue, and its answers here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.schedule import beta_at
from seqmatch.objectives.sequence_match import (
    SequenceMatchConfig,
    sequence_match_loss,
    uses_rollouts,
)
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from seqmatch.objectives import ObjectiveConfig
    from seqmatch.objectives.base import RolloutConfig


@dataclass(frozen=True)
class RewardScale:
    """The scale of the implied reward r = alpha (l - discount V')."""

    alpha: float
    discount: float


def imitation_weight(config: ObjectiveConfig, step: int, num_steps: int) -> float:
    """Returns the weight beta of the imitation term at a step; 1 without a schedule."""
    return beta_at(step, num_steps, config) if isinstance(config, SequenceMatchConfig) else 1.0


def rollout_config(config: ObjectiveConfig) -> RolloutConfig | None:
    """Returns how the policy is sampled during training; None where it never is."""
    if isinstance(config, SequenceMatchConfig) and uses_rollouts(config):
        return config.rollouts
    return None


def needs_rollouts(config: ObjectiveConfig, step: int, num_steps: int) -> bool:
    """Tells whether the loss of this step has a term on the policy's own samples."""
    return rollout_config(config) is not None and imitation_weight(config, step, num_steps) < 1.0


def value_temperature(config: ObjectiveConfig) -> float | None:  # noqa: ARG001
    """Returns the beta of the tempered values that the loss is made of; None where of none."""
    return None


def needs_backspace_q(config: ObjectiveConfig) -> bool:  # noqa: ARG001
    """Tells whether the loss asks how likely backspace is in every state."""
    return False


def reward_scale(config: ObjectiveConfig) -> RewardScale:
    """Returns the objective's alpha and discount; where it has none, those of SequenceMatch.

    So the curves of all objectives have the same axes.
    """
    scale = config if isinstance(config, SequenceMatchConfig) else SequenceMatchConfig()
    return RewardScale(scale.alpha, scale.discount)


def divergence_name(config: ObjectiveConfig) -> str:
    """Returns the name of the divergence that was chosen; empty where there is no choice."""
    return config.divergence if isinstance(config, SequenceMatchConfig) else ""


def warnings_of(config: ObjectiveConfig) -> tuple[str, ...]:  # noqa: ARG001
    """Returns what a person should know of these settings before trusting the run."""
    return ()


def objective_loss(
    config: ObjectiveConfig,
    data: StateActionValues,
    rollouts: StateActionValues | None,
    beta: float,
) -> LossOutput:
    """Computes the loss of a training batch.

        SFT:             L_BC
        SequenceMatch:   beta L_BC + (1 - beta) L_SM

    Args:
        config: The objective.
        data: Values along demonstrations.
        rollouts: Values along replayed rollouts; None where `needs_rollouts` says no.
        beta: Weight of the imitation term, in [0, 1]; with 1 the SequenceMatch term is not
            computed. Ignored by SFT.

    Returns:
        The loss in nats per sequence. Terms: `train/loss`, `train/bc_loss`, `train/nll`, and for
        SequenceMatch `train/td_data` (always) and all terms of `sequence_match_loss` (beta < 1).

    Raises:
        ConfigError: The SequenceMatch term needs rollouts and there are none.
    """
    imitation = sft_loss(data)
    if isinstance(config, SFTConfig):
        return _with_total(imitation, {})
    if beta >= 1.0:
        along = temporal_differences(data, config.discount)
        return _with_total(imitation, {"train/td_data": along.mean_absolute_td().detach()})
    matching = sequence_match_loss(data, rollouts, config)
    loss = beta * imitation.loss + (1.0 - beta) * matching.loss
    return _with_total(LossOutput(loss, imitation.terms), matching.terms)


def _with_total(output: LossOutput, more: dict[str, Float[Tensor, ""]]) -> LossOutput:
    return LossOutput(output.loss, {"train/loss": output.loss.detach(), **output.terms, **more})
