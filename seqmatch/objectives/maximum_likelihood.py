"""Supervised fine-tuning, also called behaviour cloning: its config and its loss.

The loss of a sequence is summed over its tokens and never divided by its own length: the mean over
each sequence's length is not a proper scoring rule and teaches to stop too early (docs/method.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    pass


DemonstratedBackspace = Annotated[
    bool,
    Field(
        title="Backspace action",
        description="Train on demonstrations with mistakes and the backspaces that undo them.",
    ),
]
"""What every objective of the likelihood family has."""


class SFTConfig(Frozen):
    """Supervised fine-tuning: minimise the forward KL of whole answers."""

    kind: Literal["sft"] = "sft"
    backspace: DemonstratedBackspace = False
    corruption: CorruptionConfig = CorruptionConfig()


def sft_loss(data: StateActionValues) -> LossOutput:
    """Computes the negative log-likelihood of the labels, backspace labels included.

        L = mean over sequences of  sum_{t<N} [ V(s_t) - l(y_t|s_t) ]

    This is the forward KL of whole answers up to the data's entropy. Invariant to l(.|s) + c(s).

    Args:
        data: Values along demonstrations.

    Returns:
        The loss in nats per sequence, with `train/bc_loss` (the same) and `train/nll` (nats per
        token of the batch) as terms.

    Source: docs/method.md, "Averaging"; Cundy & Ermon (arXiv 2306.05426), footnote on averaging.
    """
    nll = data.token_nll()
    loss = data.mean(nll.sum(dim=1))
    per_token = loss / data.mean(data.is_action.sum(dim=1).to(loss.dtype))
    return LossOutput(loss, {"train/bc_loss": loss.detach(), "train/nll": per_token.detach()})
