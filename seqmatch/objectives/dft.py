"""Dynamic fine-tuning, a baseline of the literature: its config and its loss."""

from __future__ import annotations

from typing import Literal

from seqmatch.objectives.base import CorruptionConfig, Frozen
from seqmatch.objectives.maximum_likelihood import DemonstratedBackspace
from seqmatch.types import LossOutput, StateActionValues


class DFTConfig(Frozen):
    """Dynamic fine-tuning: each token's NLL weighs as much as the token is likely."""

    kind: Literal["dft"] = "dft"
    backspace: DemonstratedBackspace = False
    corruption: CorruptionConfig = CorruptionConfig()


def dft_loss(data: StateActionValues) -> LossOutput:
    """Computes the negative log-likelihood with each token weighted by its own probability.

        L = mean over sequences of  sum_{t<N} - sg(p(y_t|s_t)) log p(y_t|s_t)

    with sg the stop-gradient. Its gradient is that of -sum_t p(y_t|s_t), so it is no divergence:
    in one state the minimiser gives all probability to the most frequent action. The number
    itself, -p log p, is also small where p is near 0. Invariant to l(.|s) + c(s).

    Args:
        data: Values along demonstrations.

    Returns:
        The loss in nats per sequence, with `train/dft_loss` (the same) as its term.

    Source: Wu et al., "On the Generalization of SFT" (arXiv 2508.05629); as `dft_loss` of Hugging
    Face TRL, `trl/trainer/sft_trainer.py`. Departs from it in the average: TRL divides by the
    tokens of the batch, here the sum over tokens is averaged over sequences.
    """
    nll = data.token_nll()
    loss = data.mean((nll.neg().exp().detach() * nll).sum(dim=1))
    return LossOutput(loss, {"train/dft_loss": loss.detach()})
