"""What is asked of the exact experiment and what it streams back, as JSON. Light: pages read it.

An infinite divergence is a number here; in JSON it is the string "inf", which reads back.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator

from seqmatch.divergences.alpha_family import DEFAULT_ORDER, MAXIMUM_ORDER, MINIMUM_ORDER
from seqmatch.errors import UnknownNameError
from seqmatch.exact.choices import DEFAULT_OBJECTIVES, get_oracle_objective
from seqmatch.exact.languages import TABLE as TABLE
from seqmatch.exact.languages import PolicyKind
from seqmatch.intervals import mean_with_interval
from seqmatch.objectives.base import Frozen

Level = Literal["occupancy", "answers"]
Extended = Annotated[
    float,
    PlainSerializer(
        lambda value: value if math.isfinite(value) else str(float(value)), when_used="json"
    ),
]
"""A number that may be infinite: "inf" in JSON, which reads back."""


class OracleRequest(Frozen):
    """One experiment: a language, the objectives to train on it, and the seeds."""

    language: str = Field("two_modes", title="Language")
    """The name of a built-in language, or `languages.TABLE`."""
    table: str = Field("", max_length=20_000, title="Table of probabilities")
    """With the language "table": one answer and its probability a line."""
    objectives: list[str] = Field(
        default_factory=lambda: list(DEFAULT_OBJECTIVES), min_length=1, max_length=40
    )
    """Keys of `seqmatch.exact.choices.ORACLE_OBJECTIVES`."""
    seeds: list[int] = Field(
        default_factory=lambda: list(range(5)), min_length=1, max_length=50, title="Seeds"
    )
    """Each gives one random start of the policy."""
    alpha: float = Field(
        0.01,
        gt=0.0,
        le=10.0,
        title="Entropy weight alpha",
        description="Of SequenceMatch and the composite.",
    )
    policy: PolicyKind | None = Field(None, title="Model")
    """What the policy can represent; None is what the language comes with."""
    level: Level = Field("answers", title="Compare")
    """Whether exact divergences are between laws of whole answers or occupancy measures."""
    backspace: bool | None = Field(None, title="Backspace action")
    """None is what the language comes with."""
    divergence_order: float = Field(
        DEFAULT_ORDER, ge=MINIMUM_ORDER, le=MAXIMUM_ORDER, title="Order of the alpha divergence"
    )
    num_simulated: int = Field(0, ge=0, le=1_000_000, title="Simulated decodes")
    """Decodes of each policy that are counted beside the exact law; 0 for none."""

    @field_validator("objectives")
    @classmethod
    def _objectives_are_known_and_differ(cls, keys: list[str]) -> list[str]:
        try:
            for key in keys:
                get_oracle_objective(key)
        except UnknownNameError as error:
            raise ValueError(str(error)) from error  # pydantic reports ValueErrors only
        return list(dict.fromkeys(keys))

    @field_validator("seeds")
    @classmethod
    def _seeds_are_counts_and_differ(cls, seeds: list[int]) -> list[int]:
        for seed in seeds:
            if seed < 0:
                raise ValueError(f"seed {seed} is below 0")
        return list(dict.fromkeys(seeds))


class _Result(BaseModel):
    """A part of the results: immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OracleAnswer(_Result):
    """One answer of the language, or all those that are not listed, in one."""

    text: str
    """As people write it, without the stop token; the last one may say how many are pooled."""
    probability: float
    """Under the data."""


class OracleLanguage(_Result):
    """The language that is trained on; answers by falling probability under the data."""

    name: str
    title: str
    sentence: str
    policy: str
    """What the policy can represent: a `languages.PolicyKind`."""
    backspace: bool
    noise_rate: float
    discount: float
    answers: list[OracleAnswer]
    num_pooled: int = 0
    """How many answers the last entry stands for; 0 where every answer is listed."""
    measured: list[str]
    """Names of the divergences that every run is measured under, in order."""
    level: Level
    """Between what they are measured."""


class OracleRun(_Result):
    """One policy at the optimum of one objective, from one random start."""

    objective: str
    """Its key."""
    seed: int
    law: list[float]
    """The policy's probability of each of the language's `answers`, in their order."""
    divergences: dict[str, Extended]
    """Exact value under every registered divergence, in nats where it is one; may be infinite."""
    loss: Extended
    """The objective's own number at the optimum."""
    loss_match: float | None
    """Largest absolute difference to an independent enumeration, over values and gradients; None
    where the language is too large for one."""
    num_iterations: int
    grad_norm: float
    """Largest absolute entry of the gradient at the end."""
    is_converged: bool
    num_rounds: int = 1
    """Rounds of the fixed point in which the policy's own samples are held; 1 without such."""
    off_data_probability: float
    """Probability of an answer that the data never gives: the trap, where there is one."""
    off_data_probability_masked: float | None = None
    """The same with backspace masked in decoding; None where the policy has no backspace."""
    off_data_probability_simulated: float | None = None
    """The same counted over simulated decodes; None where none were made."""
    num_simulated: int = 0
    own_divergence_at_start: Extended | None = None
    """For an adversarial objective: the exact divergence that it should lower, at its own level,
    where a few steps of supervised fine-tuning leave the policy to it."""
    own_divergence: Extended | None = None
    """The same at the end; None for other objectives."""


class OraclePiece(_Result):
    """One piece of the stream: first "language", then "progress", "note" and "run" as they come."""

    kind: Literal["language", "progress", "run", "note"]
    done: int = 0
    """With "progress": runs that are done, of `total`."""
    total: int = 0
    text: str = ""
    """With "progress" and "note": in words."""
    language: OracleLanguage | None = None
    run: OracleRun | None = None


class MatrixCell(_Result):
    """The value of one divergence after training on one objective, over seeds."""

    mean: Extended
    """Infinite where any seed's value is."""
    half_width: float | None
    """Half the 95 % interval; None from one seed or where a value is infinite."""
    num_infinite: int


class MatrixRow(_Result):
    """All that was measured after training on one objective."""

    objective: str
    num_seeds: int
    cells: dict[str, MatrixCell]
    """By the divergence that was measured."""


def matrix(runs: Sequence[OracleRun]) -> list[MatrixRow]:
    """Returns one row for each objective, in the order of first appearance in `runs`."""
    rows = []
    for objective in dict.fromkeys(run.objective for run in runs):
        own = [run for run in runs if run.objective == objective]
        cells = {
            name: cell_of([run.divergences[name] for run in own]) for name in own[0].divergences
        }
        rows.append(MatrixRow(objective=objective, num_seeds=len(own), cells=cells))
    return rows


def cell_of(values: Sequence[float]) -> MatrixCell:
    """Returns the mean and interval over seeds; infinite where any value is."""
    num_infinite = sum(math.isinf(value) for value in values)
    if num_infinite:
        return MatrixCell(mean=math.inf, half_width=None, num_infinite=num_infinite)
    mean, half_width = mean_with_interval(values)
    return MatrixCell(mean=mean, half_width=half_width, num_infinite=0)
