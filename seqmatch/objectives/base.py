"""What every objective's config shares: the options of corruption and of rollouts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """A config object: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorruptionConfig(Frozen):
    """How demonstrations get mistakes, each followed by the backspace that undoes it."""

    rate: float = Field(
        0.05,
        ge=0.0,
        le=0.5,
        title="Noise rate",
        description="Probability that a wrong token is inserted before an answer token. "
        "0.001 in the SequenceMatch paper for long text; short answers need more.",
    )
    alphabet: Literal["vocabulary", "token_set"] = Field(
        "vocabulary",
        title="Noise tokens",
        description="Draw wrong tokens from the whole vocabulary, or from the tokens of a text.",
    )
    token_set: str = Field(
        "",
        max_length=1000,
        title="Token set",
        description='With noise tokens "token_set": the wrong tokens are the tokens of this text, '
        'for example "0123456789".',
    )


class RolloutConfig(Frozen):
    """How the policy is sampled during training."""

    every: int = Field(
        50,
        ge=1,
        le=100_000,
        title="Sample every",
        json_schema_extra={"unit": "steps"},
        description="Optimiser steps between two rounds of sampling.",
    )
    batch_size: int = Field(
        256,
        ge=1,
        le=4096,
        title="Rollouts per round",
        description="How many answers are sampled in one round.",
    )
    buffer_size: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        title="Replay buffer",
        description="How many rollouts are kept; the oldest are dropped first.",
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=4096,
        title="Longest rollout",
        json_schema_extra={"unit": "tokens"},
        description="A rollout ends after this many standing tokens even without the stop token.",
    )
    temperature: float = Field(
        1.0, gt=0.0, le=5.0, title="Temperature", description="Temperature of sampling."
    )
