"""Supervised fine-tuning: config (and, below, the loss). Implemented in this module."""

from typing import Literal

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen


class SFTConfig(Frozen):
    """Supervised fine-tuning: minimise the forward KL of whole answers."""

    kind: Literal["sft"] = "sft"
    backspace: bool = Field(
        False,
        title="Backspace action",
        description="Train on demonstrations with mistakes and the backspaces that undo them.",
    )
    corruption: CorruptionConfig = CorruptionConfig()
