"""SPIN, self-play fine-tuning, a baseline of the literature: its config and its loss.

The opponent is the policy at the last round of sampling; each demonstration meets the opponent's
answer to its own prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from seqmatch.errors import ConfigError
from seqmatch.objectives.base import CorruptionConfig, Frozen
from seqmatch.objectives.on_policy import RoundConfig, StopOnFlag
from seqmatch.objectives.schedule import FinalBeta, WarmupFraction
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SPINConfig(Frozen):
    """Self-play fine-tuning: prefer demonstrations to the answers of an earlier self."""

    kind: Literal["spin"] = "spin"
    scale: float = Field(
        0.1,
        gt=0.0,
        le=100.0,
        title="Scale lambda",
        description="Of the log ratio to the opponent; 0.1 in the authors' code. A larger one "
        "keeps the policy closer to the opponent.",
    )
    backspace: bool = Field(
        False,
        title="Backspace action",
        description="Not with SPIN, which compares probabilities of whole answers.",
    )
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RoundConfig = RoundConfig()
    warmup_fraction: WarmupFraction = 0.4
    final_beta: FinalBeta = 0.2
    stop_on_flag: StopOnFlag = True

    @field_validator("backspace")
    @classmethod
    def _answers_have_a_probability(cls, backspace: bool) -> bool:
        if backspace:
            raise ValueError(
                "SPIN compares the probabilities of whole answers, and one with mistakes and "
                "backspaces has none under the demonstrations; train without backspace"
            )
        return backspace


def spin_loss(
    data: StateActionValues, rollouts: StateActionValues | None, scale: float
) -> LossOutput:
    """Computes the loss of demonstrations against the opponent's answers to the same prompts.

        L = mean over prompts of  -log sigma( lambda [ D(y_demo) - D(y_opponent) ] )
        D(y) = sum_t log p(y_t|s_t) - log p_opponent(y_t|s_t)

    At p = p_opponent the value is log 2. A policy that no longer moves is one whose answers look
    like the demonstrations to every such comparison.

    Args:
        data: Values along demonstrations, with `old_log_probs` of the opponent.
        rollouts: The same along the opponent's answers, in the order of the demonstrations.
        scale: lambda.

    Returns:
        The loss in nats per pair. Terms: `train/spin_loss` (the same) and `train/spin_margin`, the
        mean difference of both log ratios.

    Raises:
        ConfigError: The opponent's answers, or its log-probabilities, are missing.

    Source: Chen et al., "Self-Play Fine-Tuning" (arXiv 2401.01335), equation 4.7; the scale is that
    of the authors' README.
    """
    if rollouts is None or data.old_log_probs is None or rollouts.old_log_probs is None:
        raise ConfigError(
            "SPIN needs the opponent's answers to the prompts of the demonstrations, and its "
            "log-probabilities of both"
        )
    won = _log_ratio(data, data.old_log_probs)
    lost = _log_ratio(rollouts, rollouts.old_log_probs)
    margin = won - lost
    loss = data.mean((-scale * margin).logaddexp(margin.new_zeros(())))
    terms = {"train/spin_loss": loss, "train/spin_margin": data.mean(margin)}
    return LossOutput(loss, {name: value.detach() for name, value in terms.items()})


def _log_ratio(
    values: StateActionValues, opponent: Float[Tensor, "batch time"]
) -> Float[Tensor, " batch"]:
    """The log ratio of whole answers, policy over opponent."""
    steps = -values.token_nll() - opponent
    return steps.masked_fill(~values.is_action, 0.0).sum(dim=1)
