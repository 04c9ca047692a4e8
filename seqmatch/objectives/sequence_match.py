"""SequenceMatch: match occupancy measures by the policy's own logits. Its config and its loss.

Signs: the papers' J is maximised; everything here is minus J and minimised. Discounts: the action
at time t weighs gamma^t, the stop token's absorbing state gamma^N. Formulas: docs/method.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from seqmatch.divergences import DIVERGENCES, Divergence, get_divergence
from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.objectives.base import CorruptionConfig, Frozen, RolloutConfig
from seqmatch.objectives.schedule import Alpha, Discount, FinalBeta, WarmupFraction
from seqmatch.objectives.temporal_difference import (
    TemporalDifferences,
    temporal_differences,
)
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class SequenceMatchConfig(Frozen):
    """Match occupancy measures by the policy's own logits (Cundy & Ermon, arXiv 2306.05426)."""

    kind: Literal["sequence_match"] = "sequence_match"
    divergence: str = Field(
        "chi_square_mixture",
        title="Divergence",
        description="What is minimised between the occupancy measures of policy and demonstrator.",
        json_schema_extra={"choices": list(DIVERGENCES)},
    )
    alpha: Alpha = 0.01
    discount: Discount = 0.998
    backspace: bool = Field(
        True,
        title="Backspace action",
        description="Let the policy take back its last token; demonstrations get mistakes and "
        "the backspaces that undo them.",
    )
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RolloutConfig = RolloutConfig()
    warmup_fraction: WarmupFraction = 0.4
    final_beta: FinalBeta = 0.2
    estimator: Literal["telescoped", "paper"] = Field(
        "telescoped",
        title="Estimator",
        description="telescoped: discounted NLL plus penalties. paper: equation 4 literally. They "
        "are equal on complete trajectories from one start state.",
    )

    @field_validator("divergence")
    @classmethod
    def _divergence_is_registered(cls, name: str) -> str:
        try:
            get_divergence(name)
        except UnknownNameError as error:
            raise ValueError(str(error)) from error  # pydantic reports ValueErrors only
        return name


def uses_rollouts(config: SequenceMatchConfig) -> bool:
    """Tells whether the loss has a term on the policy's own samples at all."""
    return get_divergence(config.divergence).uses_mixture or config.estimator == "paper"


def sequence_match_loss(
    data: StateActionValues,
    rollouts: StateActionValues | None,
    config: SequenceMatchConfig,
) -> LossOutput:
    """Computes minus the SequenceMatch objective, averaged over sequences.

    With d_t = l(y_t|s_t) - gamma V(s_{t+1}), nll_t = V(s_t) - l(y_t|s_t) and s_N terminal,
    `telescoped` is

        -J = sum_{t<N} gamma^t { nll_t + [ d_t - phi(alpha d_t)/alpha ] }
             + gamma^N { V(s_N) - phi(alpha (1-gamma) V(s_N)) / (alpha (1-gamma)) }

    and `paper` is minus equation 4 with both value sums; they are equal on complete trajectories
    from one start state. A divergence with a mixture adds, over rollouts u_0 .. u_M,

        sum_{t<M} gamma^t (alpha/4) d_t(u)^2 + gamma^M (alpha/4) (1-gamma) V(u_M)^2.

    The gradient goes through V(s_{t+1}) too. Rollouts count as fixed: no score-function term.

    Args:
        data: Values along demonstrations that end in a terminal state.
        rollouts: The same along the policy's samples; None where no term needs them.
        config: The divergence, alpha, gamma and the estimator.

    Returns:
        The loss in nats per sequence and its terms. For `telescoped`, the loss is the discounted
        NLL plus data, mixture and terminal penalty.

    Raises:
        ConfigError: The loss has a term on rollouts and there are none.

    Source: Cundy & Ermon (arXiv 2306.05426), equation 4. The mixture's coefficient 1/4, the
    rollouts' terminal term and the telescoped form are derived in docs/method.md.
    """
    divergence = get_divergence(config.divergence)
    if rollouts is None and uses_rollouts(config):
        raise ConfigError(
            f"no rollouts for divergence {divergence.name!r} with the estimator "
            f"{config.estimator!r}; sample some, or choose a divergence without a mixture and the "
            "telescoped estimator"
        )
    along = temporal_differences(data, config.discount)
    penalty, terminal_penalty = _data_penalties(along, divergence, config)
    loss = along.discounted_sum(along.nll) + penalty + terminal_penalty
    reported = {"train/td_data": along.mean_absolute_td()}
    if rollouts is not None:
        sampled = temporal_differences(rollouts, config.discount)
        reported["train/td_rollout"] = sampled.mean_absolute_td()
        if divergence.uses_mixture:
            mixture, mixture_terminal = _mixture_penalties(sampled, config)
            loss = loss + mixture + mixture_terminal
            terminal_penalty = terminal_penalty + mixture_terminal
            reported["train/mixture_penalty"] = mixture
        if config.estimator == "paper":
            loss = loss + (sampled.value_sum() - along.value_sum()) / 2
    reported |= {
        "train/sm_loss": loss,
        "train/data_penalty": penalty,
        "train/terminal_penalty": terminal_penalty,
    }
    return LossOutput(loss, {name: value.detach() for name, value in reported.items()})


def _data_penalties(
    along: TemporalDifferences, divergence: Divergence, config: SequenceMatchConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What the divergence adds to the discounted NLL of demonstrations, and at their end.

    The end is the geometric sum over the absorbing state, each visit's reward being
    (1 - gamma) V(s_N).
    """
    alpha, rest = config.alpha, 1.0 - config.discount
    penalty = along.discounted_sum(along.td - divergence.phi(alpha * along.td) / alpha)
    end = divergence.phi(alpha * rest * along.end_value) / (alpha * rest)
    return penalty, along.discounted_end(along.end_value - end)


def _mixture_penalties(
    along: TemporalDifferences, config: SequenceMatchConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The square of the implied reward on rollouts, over alpha, with coefficient 1/4."""
    quarter, rest = config.alpha / 4, 1.0 - config.discount
    penalty = along.discounted_sum(quarter * along.td.square())
    return penalty, along.discounted_end(quarter * rest * along.end_value.square())
