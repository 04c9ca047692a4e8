"""GEM, entropic distribution matching, a baseline of the literature: its config and its loss.

Only the linear h is offered. With h = log-sigmoid, which the authors' trainer takes unless told
otherwise, each difference of logits is weighted by a sigmoid of itself: that needs all logits of
a state, and its fixed point has no closed form.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seqmatch.errors import ConfigError
from seqmatch.objectives.base import CorruptionConfig, Frozen
from seqmatch.objectives.maximum_likelihood import DemonstratedBackspace
from seqmatch.types import LossOutput, StateActionValues


class GEMConfig(Frozen):
    """GEM with a linear h: reverse KL with an entropy bonus, without samples."""

    kind: Literal["gem"] = "gem"
    beta: float = Field(
        0.7,
        gt=0.0,
        le=1.0,
        title="Temperature beta",
        description="The policy tends to the demonstrations' law to this power, so it stays more "
        "varied the smaller beta is. 0.7 in the paper's example; 1 is SFT.",
    )
    backspace: DemonstratedBackspace = False
    corruption: CorruptionConfig = CorruptionConfig()


def gem_loss(data: StateActionValues, beta: float) -> LossOutput:
    """Computes the loss whose gradient is that of linear GEM.

        L = mean over sequences of  sum_{t<N} [ beta logsumexp(l(.|s_t)/beta) - l(y_t|s_t) ]
          = mean over sequences of  sum_{t<N} - beta log q(y_t|s_t),   q = softmax(l/beta)

    The gradient in the logits is q - onehot(y): the one of the paper's
    sum_v sg(q(v)) [log p(v) - log p(y)], whose value is smaller by beta H(q). In one state the
    minimiser has q = data, so p = softmax(l) is proportional to data^beta. Invariant to
    l(.|s) + c(s).

    Args:
        data: Values along demonstrations, tempered at beta.
        beta: In (0, 1].

    Returns:
        The loss in nats per sequence, with `train/gem_loss` (the same) as its term.

    Raises:
        ConfigError: The values have no tempered ones.

    Source: Li et al., "Preserving Diversity in Supervised Fine-Tuning" (arXiv 2408.16673), h the
    identity (`h="linear"` of the authors' code, GitHub liziniu/GEM). Departs from it in the
    average, as `dft_loss`, and in the value by beta H(q).
    """
    if data.tempered_values is None:
        raise ConfigError(
            f"GEM needs values at the temperature {beta}; ask state_action_values for them with "
            "value_temperature"
        )
    difference = data.tempered_values - data.chosen_q
    per_sequence = difference.masked_fill(data.is_action.logical_not(), 0.0).sum(dim=1)
    loss = data.mean(per_sequence)
    return LossOutput(loss, {"train/gem_loss": loss.detach()})
