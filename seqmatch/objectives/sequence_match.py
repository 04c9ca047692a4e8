"""SequenceMatch: match occupancy measures by the policy's own logits. Its config and its loss.

Signs: the papers' J is maximised; everything here is minus J and minimised. Discounts: the action
at time t weighs gamma^t, the stop token's absorbing state gamma^N. Formulas: docs/method.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from seqmatch.divergences import Divergence, divergences_of, get_divergence
from seqmatch.divergences.alpha_family import DEFAULT_ORDER
from seqmatch.errors import ConfigError, UnknownNameError
from seqmatch.objectives.base import (
    CorruptionConfig,
    DivergenceOrder,
    Frozen,
    LearntBackspace,
    RolloutConfig,
)
from seqmatch.objectives.implied_rewards import ImpliedRewards
from seqmatch.objectives.schedule import Alpha, Discount, FinalBeta, WarmupFraction
from seqmatch.objectives.temporal_difference import (
    TemporalDifferences,
    temporal_differences,
)
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


def _list_divergences(schema: dict[str, Any]) -> None:
    """Puts the choices into the JSON schema, as the registry stands when it is asked."""
    schema["choices"] = list(divergences_of("sequence_match"))


class SequenceMatchConfig(Frozen):
    """Match occupancy measures by the policy's own logits (Cundy & Ermon, arXiv 2306.05426)."""

    kind: Literal["sequence_match"] = "sequence_match"
    divergence: str = Field(
        "chi_square_mixture",
        title="Divergence",
        description="What is minimised between the occupancy measures of policy and demonstrator.",
        json_schema_extra=_list_divergences,
    )
    divergence_order: DivergenceOrder = DEFAULT_ORDER
    alpha: Alpha = 0.01
    discount: Discount = 0.998
    backspace: LearntBackspace = True
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
    offline: bool = Field(
        False,
        title="Offline",
        description="Never sample the policy. Of the chi-square mixture only the square on "
        "demonstrations remains, and both estimators are equal.",
    )
    mixture_data: float = Field(
        0.25,
        ge=0.0,
        le=100.0,
        title="Mixture weight, data",
        description="Of the squared reward on demonstrations, with the chi-square mixture. 1/4 for "
        "both weights is the divergence itself.",
    )
    mixture_model: float = Field(
        0.25,
        ge=0.0,
        le=100.0,
        title="Mixture weight, model",
        description="Of the squared reward on sampled answers, with the chi-square mixture. With 0 "
        "nothing is sampled.",
    )
    reward_clip: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        title="Reward limit",
        description="Penalties grow linearly where alpha |d| is above this, which bounds their "
        "gradient. 0 is no limit; 2 is the largest reward at the optimum of the chi-square "
        "mixture.",
    )
    target_decay: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        title="Target network decay",
        description="With more than 0, the values of next states come without gradient from a "
        "moving average of the weights, which keeps this share of itself at each step; costs a "
        "forward pass. 0 is no target network.",
    )

    @field_validator("divergence")
    @classmethod
    def _divergence_is_registered(cls, name: str) -> str:
        try:
            reason = get_divergence(name).left_out.get("sequence_match")
        except UnknownNameError as error:
            raise ValueError(str(error)) from error  # pydantic reports ValueErrors only
        if reason is not None:
            allowed = ", ".join(sorted(divergences_of("sequence_match")))
            raise ValueError(f"{name!r} is not for SequenceMatch: {reason}; allowed: {allowed}")
        return name


def uses_rollouts(config: SequenceMatchConfig) -> bool:
    """Tells whether the loss has a term on the policy's own samples at all."""
    has_mixture = divergence_of(config).uses_mixture and config.mixture_model > 0.0
    return not config.offline and (has_mixture or config.estimator == "paper")


def divergence_of(config: SequenceMatchConfig) -> Divergence:
    """Returns the registered divergence that the config names."""
    return get_divergence(config.divergence, config.divergence_order)


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
    from one start state. A divergence with a mixture has x - c_E x^2 for phi, and adds over
    rollouts u_0 .. u_M

        sum_{t<M} gamma^t alpha c_pi d_t(u)^2 + gamma^M alpha c_pi (1-gamma) V(u_M)^2.

    Offline no term on rollouts is left: neither the mixture's, nor the value sum of `paper`, whose
    weight goes to the one over demonstrations, so that both estimators are equal.

    The gradient goes through V(s_{t+1}) too, unless `next_values` of a target network stand for it.
    Rollouts count as fixed: no score-function term.

    Args:
        data: Values along demonstrations that end in a terminal state.
        rollouts: The same along the policy's samples; None where no term needs them.
        config: The divergence, alpha, gamma, the estimator, c_E, c_pi and the limit on rewards.

    Returns:
        The loss in nats per sequence and its terms. For `telescoped`, the loss is the discounted
        NLL plus data, mixture and terminal penalty.

    Raises:
        ConfigError: The loss has a term on rollouts and there are none.

    Source: Cundy & Ermon (arXiv 2306.05426), equation 4. The coefficients 1/4, the rollouts'
    terminal term and the telescoped form are derived in docs/method.md; offline as `value_expert`
    of Garg et al. (IQ-Learn).
    """
    if not uses_rollouts(config):
        rollouts = None
    elif rollouts is None:
        raise ConfigError(
            f"no rollouts for divergence {config.divergence!r} with the estimator "
            f"{config.estimator!r}; sample some, choose offline, or a divergence without a mixture "
            "and the telescoped estimator"
        )
    rewards = _rewards(config)
    along = temporal_differences(data, config.discount)
    penalty, terminal_penalty = _data_penalties(along, rewards, config)
    loss = along.discounted_sum(along.nll) + penalty + terminal_penalty
    reported = {**_measures(along, config, "data")}
    if rollouts is not None:
        sampled = temporal_differences(rollouts, config.discount)
        reported |= _measures(sampled, config, "rollout")
        if rewards.divergence.uses_mixture:
            mixture, mixture_terminal = _mixture_penalties(sampled, rewards, config)
            loss = loss + mixture + mixture_terminal
            terminal_penalty = terminal_penalty + mixture_terminal
            reported["train/mixture_penalty"] = mixture
        if config.estimator == "paper":
            loss = loss + (sampled.value_sum() - along.value_sum()) / 2
    if data.next_values is not None:
        reported["train/target_gap"] = along.mean_target_gap()
    reported |= {
        "train/sm_loss": loss,
        "train/data_penalty": penalty,
        "train/terminal_penalty": terminal_penalty,
    }
    return LossOutput(loss, {name: value.detach() for name, value in reported.items()})


def _rewards(config: SequenceMatchConfig) -> ImpliedRewards:
    return ImpliedRewards(
        divergence_of(config), config.mixture_data, config.mixture_model, config.reward_clip
    )


def _measures(
    along: TemporalDifferences, config: SequenceMatchConfig, side: Literal["data", "rollout"]
) -> dict[str, Float[Tensor, ""]]:
    """What is reported of temporal differences."""
    found = {f"train/td_{side}": along.mean_absolute_td()}
    if config.reward_clip:
        found[f"train/clipped_{side}"] = along.share_beyond(config.reward_clip / config.alpha)
    return found


def _data_penalties(
    along: TemporalDifferences, rewards: ImpliedRewards, config: SequenceMatchConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """What the divergence adds to the discounted NLL of demonstrations, and at their end.

    The end is the geometric sum over the absorbing state, each visit's reward being
    (1 - gamma) V(s_N).
    """
    alpha, rest = config.alpha, 1.0 - config.discount
    penalty = along.discounted_sum(along.td - rewards.data_phi(alpha * along.td) / alpha)
    end = rewards.data_phi(alpha * rest * along.end_value) / (alpha * rest)
    return penalty, along.discounted_end(along.end_value - end)


def _mixture_penalties(
    along: TemporalDifferences, rewards: ImpliedRewards, config: SequenceMatchConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The square of the implied reward on rollouts, over alpha, and at their end."""
    alpha, rest = config.alpha, 1.0 - config.discount
    penalty = along.discounted_sum(rewards.model_square(alpha * along.td) / alpha)
    end = rewards.model_square(alpha * rest * along.end_value) / (alpha * rest)
    return penalty, along.discounted_end(end)
