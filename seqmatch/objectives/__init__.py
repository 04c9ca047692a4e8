"""The objectives, one module a family; the union is what config, forms and command line read."""

from typing import Annotated

from pydantic import Field

from seqmatch.objectives.base import CorruptionConfig, Frozen, RolloutConfig
from seqmatch.objectives.maximum_likelihood import SFTConfig
from seqmatch.objectives.sequence_match import SequenceMatchConfig

ObjectiveConfig = Annotated[SFTConfig | SequenceMatchConfig, Field(discriminator="kind")]

__all__ = [
    "CorruptionConfig",
    "Frozen",
    "ObjectiveConfig",
    "RolloutConfig",
    "SFTConfig",
    "SequenceMatchConfig",
]
