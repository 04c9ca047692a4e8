"""The objectives, one module a family; the union is what config, forms and command line read."""

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import Field

from seqmatch.objectives.adversarial import AdversarialConfig, DiscriminatorConfig
from seqmatch.objectives.base import CorruptionConfig, Frozen, RolloutConfig
from seqmatch.objectives.catalogue import OBJECTIVES, ObjectiveInfo
from seqmatch.objectives.composite import CompositeConfig
from seqmatch.objectives.dense_reward import DenseRewardConfig
from seqmatch.objectives.dft import DFTConfig
from seqmatch.objectives.dispatch import needs_rollouts, objective_loss
from seqmatch.objectives.gem import GEMConfig
from seqmatch.objectives.maximum_likelihood import SFTConfig, sft_loss
from seqmatch.objectives.on_policy import PolicyStepConfig, RoundConfig
from seqmatch.objectives.schedule import beta_at
from seqmatch.objectives.sequence_match import SequenceMatchConfig, sequence_match_loss
from seqmatch.objectives.spin import SPINConfig
from seqmatch.objectives.weighted_likelihood import ForwardKLOccupancyConfig

ObjectiveConfig = Annotated[
    SFTConfig
    | ForwardKLOccupancyConfig
    | DFTConfig
    | GEMConfig
    | SequenceMatchConfig
    | CompositeConfig
    | AdversarialConfig
    | SPINConfig
    | DenseRewardConfig,
    Field(discriminator="kind"),
]

CONFIGS: Mapping[str, type[Frozen]] = {
    member.model_fields["kind"].default: member for member in get_args(get_args(ObjectiveConfig)[0])
}
"""The members of the union by their `kind`."""

__all__ = [
    "CONFIGS",
    "OBJECTIVES",
    "AdversarialConfig",
    "CompositeConfig",
    "CorruptionConfig",
    "DFTConfig",
    "DenseRewardConfig",
    "DiscriminatorConfig",
    "ForwardKLOccupancyConfig",
    "Frozen",
    "GEMConfig",
    "ObjectiveConfig",
    "ObjectiveInfo",
    "PolicyStepConfig",
    "RolloutConfig",
    "RoundConfig",
    "SFTConfig",
    "SPINConfig",
    "SequenceMatchConfig",
    "beta_at",
    "needs_rollouts",
    "objective_loss",
    "sequence_match_loss",
    "sft_loss",
]
