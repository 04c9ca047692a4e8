"""What the rest of the program asks of an objective; where all that trains tells members apart.

A new objective is its module, a name in the union of `seqmatch.objectives`, an entry of the
catalogue, and its answers here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqmatch.objectives.adversarial import (
    AdversarialConfig,
    adversarial_warnings,
)
from seqmatch.objectives.composite import CompositeConfig, composite_loss, parts_of
from seqmatch.objectives.dense_reward import DenseRewardConfig, teacher_objective
from seqmatch.objectives.dft import DFTConfig, dft_loss
from seqmatch.objectives.gem import GEMConfig, gem_loss
from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.on_policy import PolicyStepConfig, RoundConfig, policy_step_loss
from seqmatch.objectives.schedule import beta_at
from seqmatch.objectives.sequence_match import (
    SequenceMatchConfig,
    divergence_of,
    sequence_match_loss,
    uses_rollouts,
)
from seqmatch.objectives.spin import SPINConfig, spin_loss
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

    from seqmatch.divergences import Divergence
    from seqmatch.objectives import ObjectiveConfig
    from seqmatch.objectives.base import RolloutConfig

InRounds = AdversarialConfig | SPINConfig | DenseRewardConfig
"""Trained on rounds of fresh answers, instead of replayed ones."""
Scheduled = SequenceMatchConfig | CompositeConfig | InRounds
"""Begins as imitation."""
Rewarded = AdversarialConfig | DenseRewardConfig
"""Trained by policy gradients."""


@dataclass(frozen=True)
class RewardScale:
    """The scale of the implied reward r = alpha (l - discount V')."""

    alpha: float
    discount: float


def imitation_weight(config: ObjectiveConfig, step: int, num_steps: int) -> float:
    """Returns the weight beta of the imitation term at a step; 1 without a schedule."""
    return beta_at(step, num_steps, config) if isinstance(config, Scheduled) else 1.0


def rollout_config(config: ObjectiveConfig) -> RolloutConfig | RoundConfig | None:
    """Returns how the policy is sampled during training; None where it never is."""
    match config:
        case SequenceMatchConfig() if uses_rollouts(config):
            return config.rollouts
        case CompositeConfig() if config.chi_square_mixture:
            return config.rollouts
        case AdversarialConfig() | SPINConfig() | DenseRewardConfig():
            return config.rollouts
        case _:
            return None


def needs_rollouts(config: ObjectiveConfig, step: int, num_steps: int) -> bool:
    """Tells whether a step uses the policy's own samples: in its loss, or for a discriminator."""
    if rollout_config(config) is None:
        return False
    return imitation_weight(config, step, num_steps) < 1.0 or trains_discriminator(
        config, step, num_steps
    )


def in_rounds(config: ObjectiveConfig) -> RoundConfig | None:
    """Returns how rounds are sampled; None where rollouts are replayed, or there are none."""
    return config.rollouts if isinstance(config, InRounds) else None


def answers_per_prompt(config: ObjectiveConfig) -> int:
    """Returns how many answers to one prompt a round has."""
    return config.policy_step.answers_per_prompt if isinstance(config, Rewarded) else 1


def is_paired(config: ObjectiveConfig) -> bool:
    """Tells whether each rollout of a batch is compared with the demonstration of its prompt."""
    return isinstance(config, SPINConfig)


def policy_step_config(config: ObjectiveConfig) -> PolicyStepConfig | None:
    """Returns how rewards become a step of the policy; None where there are no rewards."""
    return config.policy_step if isinstance(config, Rewarded) else None


def adversarial_config(config: ObjectiveConfig) -> AdversarialConfig | None:
    """Returns the config of an objective with a discriminator; None where there is none."""
    return config if isinstance(config, AdversarialConfig) else None


def trains_discriminator(config: ObjectiveConfig, step: int, num_steps: int) -> bool:
    """Tells whether a discriminator learns in a step.

    It does from its own warm-up on, the last steps of the imitation warm-up.
    """
    if not isinstance(config, AdversarialConfig):
        return False
    return step >= config.warmup_fraction * num_steps - config.discriminator.warmup_steps


def has_reference(config: ObjectiveConfig) -> bool:
    """Tells whether the policy at the end of the imitation warm-up is needed afterwards."""
    match config:
        case AdversarialConfig():
            return config.policy_step.kl_weight > 0.0
        case DenseRewardConfig():
            return True  # it is the teacher
        case _:
            return False


def teacher_discount(config: ObjectiveConfig) -> float | None:
    """Returns gamma of the dense reward of a teacher; None where there is no teacher."""
    return config.discount if isinstance(config, DenseRewardConfig) else None


def has_start(config: ObjectiveConfig) -> bool:
    """Tells whether the policy before training is needed afterwards."""
    return isinstance(config, DenseRewardConfig) and config.relative_to_start


def stops_on_flag(config: ObjectiveConfig) -> bool:
    """Tells whether a run ends where a flag is raised."""
    return isinstance(config, InRounds) and config.stop_on_flag


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
    if isinstance(config, Scheduled) and rollout_config(config):
        return _matching_steps(config, num_steps)
    return 0.0


def _matching_steps(config: Scheduled, num_steps: int) -> float:
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
        case SequenceMatchConfig() | CompositeConfig() | DenseRewardConfig():
            return RewardScale(config.alpha, config.discount)
        case AdversarialConfig():
            return RewardScale(usual.alpha, config.discount)
        case ForwardKLOccupancyConfig(weights="gamma"):
            return RewardScale(usual.alpha, config.discount)
        case _:
            return RewardScale(usual.alpha, usual.discount)


def divergence_name(config: ObjectiveConfig) -> str:
    """Returns the name of the divergence that was chosen; empty where there is no choice."""
    if isinstance(config, SequenceMatchConfig | AdversarialConfig):
        return config.divergence
    return ""


def settings_in_words(config: ObjectiveConfig) -> str:
    """Returns the settings that say which member of its family an objective is; may be empty."""
    match config:
        case SequenceMatchConfig():
            return f"{_member(divergence_of(config))}, alpha {config.alpha:g}"
        case ForwardKLOccupancyConfig():
            return f"weights {config.weights}"
        case GEMConfig():
            return f"beta {config.beta:g}"
        case CompositeConfig():
            weights = [f"{weight:g} {name.replace('_', ' ')}" for name, weight in parts_of(config)]
            return f"{' + '.join(weights)}, alpha {config.alpha:g}"
        case AdversarialConfig():
            reward = f"reward {config.reward_name}, " if config.reward != "exact" else ""
            return f"{_member(config.entry)}, {reward}level {config.level}"
        case SPINConfig():
            return f"lambda {config.scale:g}"
        case DenseRewardConfig():
            start = ", relative to the start" if config.relative_to_start else ""
            return f"teacher {config.teacher}{start}"
        case _:
            return ""


def _member(entry: Divergence) -> str:
    order = f" family of order {entry.order:g}" if entry.order is not None else ""
    return f"{entry.name.replace('_', ' ')}{order}"


def warnings_of(config: ObjectiveConfig, batch_size: int | None = None) -> tuple[str, ...]:
    """Returns what a person should know of these settings before trusting the run.

    Args:
        config: The objective's settings.
        batch_size: Of a step; None where it is not known.
    """
    rounds = in_rounds(config)
    if rounds is None or batch_size is None:
        return _warnings_of_objective(config)
    group = answers_per_prompt(config)
    num_used = rounds.every * max(batch_size // group, 1) * group
    if num_used >= rounds.batch_size:
        return _warnings_of_objective(config)
    unused = (
        f"a round has {rounds.batch_size:,} answers, of which its {rounds.every:,} steps use "
        f"{num_used:,}: the others are sampled for nothing; choose fewer answers, more steps for "
        "a round or a larger batch"
    )
    return (*_warnings_of_objective(config), unused)


def _warnings_of_objective(config: ObjectiveConfig) -> tuple[str, ...]:
    match config:
        case ForwardKLOccupancyConfig() if config.weights in WARNINGS:
            return (WARNINGS[config.weights],)
        case AdversarialConfig():
            return adversarial_warnings(config)
        case DenseRewardConfig() if not config.relative_to_start:
            return (
                "a dense reward that is not relative to the start is the teacher's own "
                "log-likelihood, whose best policy gives all probability to the likeliest answer; "
                "only the KL to the reference and the imitation weight keep it varied",
            )
        case _:
            return ()


def objective_loss(
    config: ObjectiveConfig,
    data: StateActionValues,
    rollouts: StateActionValues | None,
    beta: float,
) -> LossOutput:
    """Computes the loss of a training batch.

        likelihood family:   its own loss L
        all others:          beta L_BC + (1 - beta) L

    Args:
        config: The objective.
        data: Values along demonstrations, with what `value_temperature` and `needs_backspace_q`
            say.
        rollouts: Values along replayed rollouts, or a part of a round with what its objective
            asks for; None where `needs_rollouts` says no.
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
        case _:
            return _scheduled(config, data, rollouts, imitation, beta)
    return _with_total(own.loss, imitation, own.terms)


def _scheduled(
    config: Scheduled,
    data: StateActionValues,
    rollouts: StateActionValues | None,
    imitation: LossOutput,
    beta: float,
) -> LossOutput:
    """The convex combination of imitation and the objective's own loss."""
    first, reported = _first_stage(config, data, imitation)
    if beta >= 1.0:
        return _with_total(first, imitation, reported)
    own = _own_loss(config, data, rollouts)
    return _with_total(beta * first + (1.0 - beta) * own.loss, imitation, reported | own.terms)


def _first_stage(
    config: Scheduled, data: StateActionValues, imitation: LossOutput
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
    """What is minimised during the imitation warm-up, and what is told of it."""
    match config:
        case SequenceMatchConfig() | CompositeConfig():
            td = temporal_differences(data, config.discount).mean_absolute_td()
            return imitation.loss, {"train/td_data": td.detach()}
        case DenseRewardConfig() if (teacher := teacher_objective(config)) is not None:
            found = sequence_match_loss(data, None, teacher)
            return found.loss, found.terms
        case _:
            return imitation.loss, {}


def _own_loss(
    config: Scheduled, data: StateActionValues, rollouts: StateActionValues | None
) -> LossOutput:
    match config:
        case SequenceMatchConfig():
            return sequence_match_loss(data, rollouts, config)
        case CompositeConfig():
            return composite_loss(data, rollouts, config)
        case AdversarialConfig():
            discount = config.discount if config.level == "token" else 1.0
            return policy_step_loss(rollouts, config.policy_step, discount)
        case SPINConfig():
            return spin_loss(data, rollouts, config.scale)
        case DenseRewardConfig():
            return policy_step_loss(rollouts, config.policy_step, config.discount)


def _with_total(
    loss: Float[Tensor, ""], imitation: LossOutput, more: dict[str, Float[Tensor, ""]]
) -> LossOutput:
    return LossOutput(loss, {"train/loss": loss.detach(), **imitation.terms, **more})
