"""SequenceMatch: config (and, below, the loss). Implemented in this module."""

from typing import Literal

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen, RolloutConfig


class SequenceMatchConfig(Frozen):
    """Match occupancy measures by the policy's own logits (Cundy & Ermon, arXiv 2306.05426)."""

    kind: Literal["sequence_match"] = "sequence_match"
    divergence: str = Field("chi_square_mixture", title="Divergence")
    alpha: float = Field(
        0.01,
        gt=0.0,
        le=10.0,
        title="Entropy weight alpha",
        description="Scale of the implied reward; 0.01 in the paper. Smaller is closer to SFT.",
    )
    discount: float = Field(
        0.998,
        gt=0.0,
        lt=1.0,
        title="Discount gamma",
        description="Weight gamma^t of the action at time t. 0.998 in the paper.",
    )
    backspace: bool = Field(
        True,
        title="Backspace action",
        description="Let the policy take back its last token; demonstrations get mistakes and "
        "the backspaces that undo them.",
    )
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RolloutConfig = RolloutConfig()
    warmup_fraction: float = Field(
        0.4,
        ge=0.0,
        le=1.0,
        title="Imitation warm-up",
        json_schema_extra={"unit": "share of steps"},
        description="Share of the steps that train on the imitation term alone.",
    )
    final_beta: float = Field(
        0.2,
        ge=0.0,
        le=1.0,
        title="Final imitation weight beta",
        description="After the warm-up the imitation weight falls linearly from 1 to this value.",
    )
    estimator: Literal["telescoped", "paper"] = Field(
        "telescoped",
        title="Estimator",
        description="telescoped: discounted NLL plus penalties. paper: equation 4 literally. They "
        "are equal on complete trajectories from one start state.",
    )
