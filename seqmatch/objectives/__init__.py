"""The objectives, one module a family; the union is what config, forms and command line read."""

from typing import Annotated

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen, RolloutConfig
from seqmatch.objectives.catalogue import OBJECTIVES, ObjectiveInfo
from seqmatch.objectives.dispatch import needs_rollouts, objective_loss
from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.schedule import beta_at
from seqmatch.objectives.sequence_match import SequenceMatchConfig, sequence_match_loss

ObjectiveConfig = Annotated[SFTConfig | SequenceMatchConfig, Field(discriminator="kind")]

__all__ = [
    "OBJECTIVES",
    "CorruptionConfig",
    "Frozen",
    "ObjectiveConfig",
    "ObjectiveInfo",
    "RolloutConfig",
    "SFTConfig",
    "SequenceMatchConfig",
    "beta_at",
    "needs_rollouts",
    "objective_loss",
    "sequence_match_loss",
    "sft_loss",
]
