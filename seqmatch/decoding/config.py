"""How answers are decoded."""

from pydantic import Field, field_validator

from seqmatch.objectives.base import Frozen

MAX_STOPS, MAX_STOP_LENGTH = 8, 64
"""Of the stop strings of one decoding; the length is in characters."""


class DecodingConfig(Frozen):
    """How answers are decoded."""

    temperature: float = Field(
        1.0, ge=0.0, le=5.0, title="Temperature", description="0 takes the most likely action."
    )
    top_k: int = Field(
        0,
        ge=0,
        le=1_000_000,
        title="Top-k",
        json_schema_extra={"unit": "actions"},
        description="Sample among this many of the likeliest actions; 0 leaves it out.",
    )
    top_p: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        title="Top-p",
        description="Of these, sample among the likeliest with this total probability.",
    )
    min_p: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        title="Min-p",
        description="Of these, only actions with at least this times the likeliest one's "
        "probability; 0 leaves it out.",
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=4096,
        title="Longest answer",
        json_schema_extra={"unit": "tokens"},
        description="An answer ends after this many standing tokens.",
    )
    max_actions: int = Field(
        256,
        ge=1,
        le=16_384,
        title="Action budget",
        json_schema_extra={"unit": "actions"},
        description="Insertions and deletions together; the last ones may not delete.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="The same seed gives every policy the same random numbers.",
    )
    stop_strings: str = Field(
        "",
        max_length=600,
        title="Stop strings",
        description="An answer is finished once it contains one of these texts, which stays in it. "
        "Separate several with |, write a line break as \\n.",
    )

    @field_validator("stop_strings")
    @classmethod
    def _few_and_short(cls, value: str) -> str:
        stops = _texts(value)
        if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_LENGTH for stop in stops):
            raise ValueError(
                f"up to {MAX_STOPS} texts of up to {MAX_STOP_LENGTH} characters, separated by |"
            )
        return value

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts of `stop_strings`."""
        return _texts(self.stop_strings)


def _texts(stop_strings: str) -> tuple[str, ...]:
    parts = stop_strings.split("|")
    return tuple(part.replace("\\n", "\n").replace("\\t", "\t") for part in parts if part)
