"""From an objective's config to its loss: what the training loop calls, whatever the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.sequence_match import (
    beta_at,
    sequence_match_loss,
    uses_rollouts,
)
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from seqmatch.objectives import ObjectiveConfig


def needs_rollouts(config: ObjectiveConfig, step: int, num_steps: int) -> bool:
    """Tells whether the loss of this step has a term on the policy's own samples."""
    if isinstance(config, SFTConfig):
        return False
    return uses_rollouts(config) and beta_at(step, num_steps, config) < 1.0


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
