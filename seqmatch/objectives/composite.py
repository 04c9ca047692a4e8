"""A weighted sum of divergences and of the calibration of backspace: its config and its loss.

A home for formulas in circulation that name several divergences at once. Weights 1 and 1 of the
two KLs are Jeffreys' divergence. No term is estimated by a discriminator: reverse KL and
Jensen-Shannon are those of SequenceMatch. Formulas: docs/method.md, "`composite`".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from seqmatch.errors import ConfigError
from seqmatch.objectives.base import CorruptionConfig, Frozen, LearntBackspace, RolloutConfig
from seqmatch.objectives.schedule import Alpha, Discount, FinalBeta, WarmupFraction
from seqmatch.objectives.sequence_match import SequenceMatchConfig, sequence_match_loss
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

MARGIN = 0.01
"""How far from 0 and 1 the probability of backspace is asked to be."""

MATCHED: Mapping[str, float] = {
    "reverse_kl": 1.0,
    "jensen_shannon": 0.5,
    "chi_square_mixture": 2.0,
}
"""The factor from SequenceMatch's divergence to the one that a weight means: the registry's
`jensen_shannon` is twice JS, and its mixture is half of sum (p - q)^2 / ((p + q)/2)."""

PARTS = ("forward_kl", *MATCHED, "backspace_calibration")
"""What may have a weight, in the order of the formula."""

Weight = Annotated[float, Field(ge=0.0, le=1000.0)]


class CompositeConfig(Frozen):
    """A weighted sum of divergences between the occupancy measures."""

    kind: Literal["composite"] = "composite"
    forward_kl: Weight = Field(
        1.0,
        title="Weight of forward KL",
        description="Of KL(data || model), as discounted negative log-likelihood.",
    )
    reverse_kl: Weight = Field(
        1.0,
        title="Weight of reverse KL",
        description="Of KL(model || data), as SequenceMatch estimates it. With forward KL both at "
        "1: Jeffreys.",
    )
    jensen_shannon: Weight = Field(
        0.0,
        title="Weight of Jensen-Shannon",
        description="Of JS(data, model), as SequenceMatch estimates it.",
    )
    chi_square_mixture: Weight = Field(
        0.0,
        title="Weight of chi-square to the mixture",
        description="Of sum (p - q)^2 / ((p + q)/2), which is twice what SequenceMatch calls the "
        "chi-square mixture. Needs rollouts.",
    )
    backspace_calibration: Weight = Field(
        0.0,
        title="Weight of backspace calibration",
        description="Of the KL between the probability of backspace and what the noise of the "
        f"demonstrations says: {1 - MARGIN:g} right after a mistake, {MARGIN:g} elsewhere.",
    )
    alpha: Alpha = 0.01
    discount: Discount = 0.998
    backspace: LearntBackspace = True
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RolloutConfig = RolloutConfig()
    warmup_fraction: WarmupFraction = 0.4
    final_beta: FinalBeta = 0.2

    @model_validator(mode="after")
    def _something_is_minimised(self) -> CompositeConfig:
        if not parts_of(self):
            names = ", ".join(PARTS)
            raise ValueError(f"all weights are 0; at least one of {names} must be above")
        if self.backspace_calibration and not self.backspace:
            raise ValueError(
                "backspace_calibration has a weight, but backspace is off; there is no such action "
                "to calibrate"
            )
        return self


def parts_of(config: CompositeConfig) -> list[tuple[str, float]]:
    """Returns the parts of the sum that have a weight, with it."""
    return [(name, weight) for name in PARTS if (weight := getattr(config, name))]


def composite_loss(
    data: StateActionValues, rollouts: StateActionValues | None, config: CompositeConfig
) -> LossOutput:
    """Computes the weighted sum, averaged over sequences.

        L = w_f FKL + w_r RKL + lambda JS + eta X2 + mu BK
        FKL = sum_{t<N} gamma^t nll_t,   RKL = L_SM[reverse_kl]
        JS = L_SM[jensen_shannon] / 2,   X2 = 2 L_SM[chi_square_mixture]
        BK = `backspace_calibration`

    with L_SM the telescoped loss of `sequence_match_loss`. Terms of weight 0 are not computed. The
    terms share their logits: with weights that sum to W, the divergences' part is W times
    SequenceMatch with the weighted mean of their phi, where forward KL has phi(x) = x.

    Args:
        data: Values along demonstrations.
        rollouts: The same along the policy's samples; read by the mixture alone.
        config: Weights, alpha and gamma.

    Returns:
        The loss in nats per sequence. Terms: each part before its weight, and `train/td_data`.

    Raises:
        ConfigError: The mixture has a weight and there are no rollouts, or the calibration has
            one and the values do not say how likely backspace is.

    Source: docs/method.md, "`composite`"; the parts are Cundy & Ermon's (arXiv 2306.05426).
    """
    along = temporal_differences(data, config.discount)
    parts: dict[str, Float[Tensor, ""]] = {}
    for name, _ in parts_of(config):
        if name == "forward_kl":
            parts[name] = along.discounted_sum(along.nll)
        elif name == "backspace_calibration":
            parts[name] = backspace_calibration(data, config.discount)
        else:
            settings = SequenceMatchConfig(
                divergence=name, alpha=config.alpha, discount=config.discount
            )
            parts[name] = MATCHED[name] * sequence_match_loss(data, rollouts, settings).loss
    loss = reduce(add, (weight * parts[name] for name, weight in parts_of(config)))
    reported = {f"train/{name}": part.detach() for name, part in parts.items()}
    return LossOutput(loss, {"train/td_data": along.mean_absolute_td().detach(), **reported})


def backspace_calibration(data: StateActionValues, discount: float) -> Float[Tensor, ""]:
    """Computes how far the probability of backspace is from what the noise says it should be.

        BK = mean over sequences of  sum_{t<N} gamma^t KL( Ber(p(bkspc|s_t)) || Ber(b_t) )
        b_t = 1 - MARGIN where y_t is backspace (a state that noise corrupted), else MARGIN

    over the states in which the action exists. Bounded by -log MARGIN per state.

    Args:
        data: Values along demonstrations, with `backspace_q`.
        discount: gamma, in (0, 1).

    Returns:
        Nats per sequence.

    Raises:
        ConfigError: The values do not say how likely backspace is.

    Source: docs/method.md, "`composite`". The expectation is over demonstrations with noise, the
    states whose labels are known, and not over the policy's own samples.
    """
    if data.backspace_q is None or data.can_delete is None or data.is_backspace_label is None:
        raise ConfigError(
            "the calibration of backspace needs values with with_backspace_q, of a policy that has "
            "the backspace action"
        )
    along = temporal_differences(data, discount)
    log_p = data.backspace_q[:, :-1] - data.values[:, :-1]
    exists = data.can_delete[:, :-1] & data.is_action
    # Strictly below 0, else the other action's log-probability is -inf; -1 where there is no such
    # state, whatever stands there.
    log_p = log_p.where(exists, -1.0).clamp(max=-1e-6)
    p = log_p.exp()
    log_rest = log_p.expm1().neg().log()
    likely, unlikely = math.log1p(-MARGIN), math.log(MARGIN)
    label = data.is_backspace_label.to(p.dtype)
    log_b = unlikely + (likely - unlikely) * label
    log_rest_b = likely + (unlikely - likely) * label
    divergence = p * (log_p - log_b) + (1.0 - p) * (log_rest - log_rest_b)
    return along.discounted_sum(divergence.where(exists, 0.0))
