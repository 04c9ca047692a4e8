"""What objectives' configs share: corruption, rollouts, and settings of several of them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from seqmatch.divergences.alpha_family import MAXIMUM_ORDER, MINIMUM_ORDER


class Frozen(BaseModel):
    """A config object: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


DivergenceOrder = Annotated[
    float,
    Field(
        ge=MINIMUM_ORDER,
        le=MAXIMUM_ORDER,
        title="Order",
        description="Of the alpha family: 0 is forward KL, 1/2 squared Hellinger, 1 reverse KL, "
        "2 Pearson's chi-square. Other divergences ignore it.",
    ),
]
LearntBackspace = Annotated[
    bool,
    Field(
        title="Backspace action",
        description="Let the policy take back its last token; demonstrations get mistakes and "
        "the backspaces that undo them.",
    ),
]
AnswersPerRound = Annotated[
    int,
    Field(
        ge=1,
        le=4096,
        title="Rollouts per round",
        description="How many answers are sampled in one round.",
    ),
]
LongestAnswer = Annotated[
    int,
    Field(
        ge=1,
        le=4096,
        title="Longest rollout",
        json_schema_extra={"unit": "tokens"},
        description="A rollout ends after this many standing tokens even without the stop token.",
    ),
]


class CorruptionConfig(Frozen):
    """How answers get mistakes and the backspaces that undo them; prompts never get any."""

    rate: float = Field(
        0.05,
        ge=0.0,
        le=0.5,
        title="Noise rate",
        description="Probability that wrong tokens are inserted before an answer token. "
        "0.001 in the SequenceMatch paper for long text; short answers need more.",
    )
    burst: int = Field(
        1,
        ge=1,
        le=16,
        title="Longest burst",
        json_schema_extra={"unit": "tokens"},
        description="A strike of noise inserts 1 to this many wrong tokens in a row, each length "
        "equally likely; as many backspaces undo them.",
    )
    alphabet: Literal["vocabulary", "token_set", "model_top_k"] = Field(
        "vocabulary",
        title="Noise tokens",
        description="Draw wrong tokens from the whole vocabulary, from the tokens of a text, or "
        "from the model's own likeliest mistakes while it trains.",
    )
    top_k: int = Field(
        5,
        ge=1,
        le=1000,
        title="Likeliest mistakes",
        json_schema_extra={"unit": "tokens"},
        description="The model's own mistakes are drawn among this many wrong tokens that it finds "
        "likeliest in that state, in proportion to its probabilities. Costs a forward pass a step, "
        "and one more for each further token of a burst.",
    )
    token_set: str = Field(
        "",
        max_length=1000,
        title="Token set",
        description="Wrong tokens drawn from a text are the tokens of this one, for example "
        '"0123456789".',
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
    batch_size: AnswersPerRound = 256
    buffer_size: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        title="Replay buffer",
        description="How many rollouts are kept; the oldest are dropped first.",
    )
    max_new_tokens: LongestAnswer = 64
    temperature: float = Field(
        1.0, gt=0.0, le=5.0, title="Temperature", description="Temperature of sampling."
    )
