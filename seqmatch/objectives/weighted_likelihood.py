"""The forward KL of occupancy measures: a likelihood whose tokens have weights. Config and loss.

The chain rule makes the forward KL a sum of the KLs of single steps, each weighted by how much of
the occupancy measure depends on it. Formulas: docs/method.md, "`forward_kl_occupancy`".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen
from seqmatch.objectives.maximum_likelihood import DemonstratedBackspace
from seqmatch.objectives.schedule import Discount
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Weights = Literal["gamma", "count", "count_norm", "paper"]

WARNINGS: Mapping[str, str] = {
    "paper": 'weights "paper" give the last token of every answer, which is the stop token, the '
    "weight 0: the policy is never taught to stop, and an answer of one token teaches nothing. "
    'Weights "gamma" teach what is demonstrated',
} | {
    name: f'weights "{name}" weigh a stop token less than the tokens of the answers that go on, so '
    "the policy learns to stop later than is demonstrated: where to stop and to go on are equally "
    f'likely, it stops {share}. Weights "gamma" teach what is demonstrated'
    for name, share in (
        ("count", "25 % of the time"),
        ("count_norm", "50 % of the time at the first token and less at each later one"),
    )
}
"""What a person should know of the weights that depend on how long the answer will be."""


class ForwardKLOccupancyConfig(Frozen):
    """Forward KL of the occupancy measures of states and actions (arXiv 2403.12017)."""

    kind: Literal["forward_kl_occupancy"] = "forward_kl_occupancy"
    weights: Weights = Field(
        "gamma",
        title="Weights of the tokens",
        description="Of token t of N. gamma: gamma^t, exact with discounting. count: N - t, the "
        "sum without discounting, and count_norm: (N - t)/N; with both answers become longer than "
        "demonstrated. paper: (N - 1 - t)/(N - 1) as printed in arXiv 2403.12017, which gives the "
        "stop token weight 0, so that stopping is not learned.",
    )
    discount: Discount = 0.998
    backspace: DemonstratedBackspace = False
    corruption: CorruptionConfig = CorruptionConfig()


def token_weights(
    data: StateActionValues, weights: Weights, discount: float
) -> Float[Tensor, "batch time"]:
    """Computes the weight of each token of an answer of N = K + 1 tokens, 0 beyond the last.

        gamma       gamma^t
        count       N - t = K - t + 1
        count_norm  (N - t) / N = (K - t + 1) / (K + 1)
        paper       (N - 1 - t) / (N - 1) = (K - t) / K, and 0 where N = 1

    Args:
        data: Values along demonstrations.
        weights: Which of them.
        discount: gamma, in (0, 1); read by `gamma` alone.

    Source: "SFT as inverse RL" (arXiv 2403.12017), equations 8 to 12, which print `paper`; the
    others are the exact counts of the same sums (docs/method.md).
    """
    times = (data.is_action.cumsum(dim=1) - 1).to(data.values.dtype)
    length = data.is_action.sum(dim=1, keepdim=True).to(data.values.dtype)
    if weights == "gamma":
        found = discount**times
    elif weights == "count":
        found = length - times
    elif weights == "count_norm":
        found = (length - times) / length.clamp(min=1.0)
    else:
        found = (length - 1.0 - times) / (length - 1.0).clamp(min=1.0)
    return found.masked_fill(data.is_action.logical_not(), 0.0)


def forward_kl_occupancy_loss(
    data: StateActionValues, weights: Weights, discount: float
) -> LossOutput:
    """Computes the weighted negative log-likelihood of the labels.

        L = mean over sequences of  sum_{t<N} w_t [ V(s_t) - l(y_t|s_t) ]

    With `gamma` this is KL(rho_data || rho_model) of the discounted occupancy measures, absorbing
    stop included, up to the data's entropy; with `count` the same for gamma = 1 and measures that
    are not normalised (mass = expected length). Only `gamma` is least where the policy is the
    demonstrator: the others know how long the answer will be, weigh a stop less than what goes on,
    and lack the difference of masses, E_model[N]. Invariant to l(.|s) + c(s).

    Args:
        data: Values along demonstrations.
        weights: Which weights.
        discount: gamma, in (0, 1); read by `gamma` alone.

    Returns:
        The loss in nats per sequence, with `train/weighted_nll` (the same) as its term.

    Source: "SFT as inverse RL" (arXiv 2403.12017), equations 8 to 12; departs from it as
    `token_weights` says.
    """
    weighted = token_weights(data, weights, discount) * data.token_nll()
    loss = data.mean(weighted.sum(dim=1))
    return LossOutput(loss, {"train/weighted_nll": loss.detach()})
