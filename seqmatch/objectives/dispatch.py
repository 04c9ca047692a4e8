"""What the rest of the program asks of an objective; where all that trains tells members apart.

A new objective is its module, a name in the union of `seqmatch.objectives`, an entry of the
catalogue, and its answers here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqmatch.objectives.composite import CompositeConfig, composite_loss, parts_of
from seqmatch.objectives.dft import DFTConfig, dft_loss
from seqmatch.objectives.gem import GEMConfig, gem_loss
from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.schedule import beta_at
from seqmatch.objectives.sequence_match import (
    SequenceMatchConfig,
    divergence_of,
    sequence_match_loss,
    uses_rollouts,
)
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.objectives.weighted_likelihood import (
    WARNINGS,
    ForwardKLOccupancyConfig,
    forward_kl_occupancy_loss,
)
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
    if isinstance(config, SequenceMatchConfig | CompositeConfig):
        return beta_at(step, num_steps, config)
    return 1.0


def rollout_config(config: ObjectiveConfig) -> RolloutConfig | None:
    """Returns how the policy is sampled during training; None where it never is."""
    match config:
        case SequenceMatchConfig() if uses_rollouts(config):
            return config.rollouts
        case CompositeConfig() if config.chi_square_mixture:
            return config.rollouts
        case _:
            return None


def needs_rollouts(config: ObjectiveConfig, step: int, num_steps: int) -> bool:
    """Tells whether the loss of this step has a term on the policy's own samples."""
    return rollout_config(config) is not None and imitation_weight(config, step, num_steps) < 1.0


def target_decay(config: ObjectiveConfig) -> float:
    """Returns the decay of the target network that gives the values of next states; 0 for none."""
    return config.target_decay if isinstance(config, SequenceMatchConfig) else 0.0


def steps_with_target(config: ObjectiveConfig, num_steps: int) -> float:
    """Returns how many steps of a run ask a target network for the values of next states."""
    if isinstance(config, SequenceMatchConfig) and config.target_decay:
        return _matching_steps(config, num_steps)
    return 0.0


def steps_with_rollouts(config: ObjectiveConfig, num_steps: int) -> float:
    """Returns how many steps of a run have a term on the policy's own samples."""
    if isinstance(config, SequenceMatchConfig | CompositeConfig) and rollout_config(config):
        return _matching_steps(config, num_steps)
    return 0.0


def _matching_steps(config: SequenceMatchConfig | CompositeConfig, num_steps: int) -> float:
    """The steps after the warm-up; none where imitation keeps all the weight."""
    return (1.0 - config.warmup_fraction) * num_steps if config.final_beta < 1.0 else 0.0


def value_temperature(config: ObjectiveConfig) -> float | None:
    """Returns the beta of the tempered values that the loss is made of; None where of none."""
    return config.beta if isinstance(config, GEMConfig) else None


def needs_backspace_q(config: ObjectiveConfig) -> bool:
    """Tells whether the loss asks how likely backspace is in every state."""
    return isinstance(config, CompositeConfig) and config.backspace_calibration > 0.0


def reward_scale(config: ObjectiveConfig) -> RewardScale:
    """Returns the objective's alpha and discount; what it has not is that of SequenceMatch.

    So the curves of all objectives have the same axes.
    """
    usual = SequenceMatchConfig()
    match config:
        case SequenceMatchConfig() | CompositeConfig():
            return RewardScale(config.alpha, config.discount)
        case ForwardKLOccupancyConfig(weights="gamma"):
            return RewardScale(usual.alpha, config.discount)
        case _:
            return RewardScale(usual.alpha, usual.discount)


def divergence_name(config: ObjectiveConfig) -> str:
    """Returns the name of the divergence that was chosen; empty where there is no choice."""
    return config.divergence if isinstance(config, SequenceMatchConfig) else ""


def settings_in_words(config: ObjectiveConfig) -> str:
    """Returns the settings that say which member of its family an objective is; may be empty."""
    match config:
        case SequenceMatchConfig():
            entry = divergence_of(config)
            order = f" family of order {entry.order:g}" if entry.order is not None else ""
            return f"{entry.name.replace('_', ' ')}{order}, alpha {config.alpha:g}"
        case ForwardKLOccupancyConfig():
            return f"weights {config.weights}"
        case GEMConfig():
            return f"beta {config.beta:g}"
        case CompositeConfig():
            weights = [f"{weight:g} {name.replace('_', ' ')}" for name, weight in parts_of(config)]
            return f"{' + '.join(weights)}, alpha {config.alpha:g}"
        case _:
            return ""


def warnings_of(config: ObjectiveConfig) -> tuple[str, ...]:
    """Returns what a person should know of these settings before trusting the run."""
    if isinstance(config, ForwardKLOccupancyConfig) and config.weights in WARNINGS:
        return (WARNINGS[config.weights],)
    return ()


def objective_loss(
    config: ObjectiveConfig,
    data: StateActionValues,
    rollouts: StateActionValues | None,
    beta: float,
) -> LossOutput:
    """Computes the loss of a training batch.

        likelihood family:          its own loss L
        SequenceMatch, composite:   beta L_BC + (1 - beta) L

    Args:
        config: The objective.
        data: Values along demonstrations, with what `value_temperature` and `needs_backspace_q`
            say.
        rollouts: Values along replayed rollouts; None where `needs_rollouts` says no.
        beta: Weight of the imitation term, in [0, 1]; with 1 the other term is not computed.
            Ignored by the likelihood family, which has no such term.

    Returns:
        The loss in nats per sequence. Terms: `train/loss`, `train/bc_loss`, `train/nll`, those of
        the objective's own loss (with a schedule: beta < 1), and for SequenceMatch and composite
        `train/td_data`.

    Raises:
        ConfigError: A term needs rollouts, tempered values or the values of backspace, and there
            are none.
    """
    imitation = sft_loss(data)
    match config:
        case SFTConfig():
            return _with_total(imitation.loss, imitation, {})
        case ForwardKLOccupancyConfig():
            own = forward_kl_occupancy_loss(data, config.weights, config.discount)
        case DFTConfig():
            own = dft_loss(data)
        case GEMConfig():
            own = gem_loss(data, config.beta)
        case SequenceMatchConfig() | CompositeConfig():
            return _scheduled(config, data, rollouts, imitation, beta)
    return _with_total(own.loss, imitation, own.terms)


def _scheduled(
    config: SequenceMatchConfig | CompositeConfig,
    data: StateActionValues,
    rollouts: StateActionValues | None,
    imitation: LossOutput,
    beta: float,
) -> LossOutput:
    """The convex combination of imitation and the objective's own loss."""
    if beta >= 1.0:
        td = temporal_differences(data, config.discount).mean_absolute_td()
        return _with_total(imitation.loss, imitation, {"train/td_data": td.detach()})
    own = (
        composite_loss(data, rollouts, config)
        if isinstance(config, CompositeConfig)
        else sequence_match_loss(data, rollouts, config)
    )
    return _with_total(beta * imitation.loss + (1.0 - beta) * own.loss, imitation, own.terms)


def _with_total(
    loss: Float[Tensor, ""], imitation: LossOutput, more: dict[str, Float[Tensor, ""]]
) -> LossOutput:
    return LossOutput(loss, {"train/loss": loss.detach(), **imitation.terms, **more})
