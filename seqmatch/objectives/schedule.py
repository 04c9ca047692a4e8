"""The schedule that leads from imitation to matching, and the settings that it and others share."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field

Alpha = Annotated[
    float,
    Field(
        gt=0.0,
        le=10.0,
        title="Entropy weight alpha",
        description="Scale of the implied reward; 0.01 in the paper. Smaller is closer to SFT.",
    ),
]
Discount = Annotated[
    float,
    Field(
        gt=0.0,
        lt=1.0,
        title="Discount gamma",
        description="Weight gamma^t of the action at time t. 0.998 in the paper.",
    ),
]
WarmupFraction = Annotated[
    float,
    Field(
        ge=0.0,
        le=1.0,
        title="Imitation warm-up",
        json_schema_extra={"unit": "share of steps"},
        description="Share of the steps that train on the imitation term alone.",
    ),
]
FinalBeta = Annotated[
    float,
    Field(
        ge=0.0,
        le=1.0,
        title="Final imitation weight beta",
        description="After the warm-up the imitation weight falls linearly from 1 to this value.",
    ),
]


class Scheduled(Protocol):
    """A config whose loss begins as imitation."""

    @property
    def warmup_fraction(self) -> float:
        """Share of the steps with imitation alone."""

    @property
    def final_beta(self) -> float:
        """The imitation weight at the end."""


def beta_at(step: int, num_steps: int, config: Scheduled) -> float:
    """Returns the weight beta of the imitation term at a step.

    1 during the warm-up, then linear down to `final_beta` when all steps are done, which is one
    step after the last update:
    beta = 1 - (1 - final_beta) (step - w) / (num_steps - w), w = warmup_fraction num_steps.

    Args:
        step: Optimiser steps done, 0 .. num_steps.
        num_steps: Optimiser steps of the whole run.
        config: Gives `warmup_fraction` and `final_beta`.

    Source: the warm-up by the imitation loss and the convex combination are those of Cundy & Ermon
    (appendix, quoted in part only); the linear schedule is ours.
    """
    warmup = config.warmup_fraction * num_steps
    if step <= warmup:
        return 1.0
    progress = min(1.0, (step - warmup) / (num_steps - warmup))
    return 1.0 - (1.0 - config.final_beta) * progress
