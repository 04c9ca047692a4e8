"""What the pages ask of the worker lane and what it answers, as JSON in the store.

Light: the pages read it too. The kind of a task names its request; a "generate" task streams
`GenerateChunk`s, "prepare_model" `PrepareModelProgress`, "oracle" the `OraclePiece`s
of `seqmatch.exact.results`, where its request is too; a "lens" task the `LensPiece`s of
`seqmatch.jobs.lens_types`; the others give one result.
"""

from typing import Literal

from pydantic import Field

from seqmatch.decoding.config import DecodingConfig
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.base import Frozen

TaskKind = Literal["generate", "token_view", "length_summary", "prepare_model", "oracle", "lens"]
TokenPart = Literal["prompt", "answer", "noise", "backspace", "stop"]


class PolicyRef(Frozen):
    """A policy to answer with: a base model as it is, or what a run has trained so far."""

    kind: Literal["base", "run"]
    base_model: str | None = None
    run_id: str | None = None
    label: str
    """How the page calls it; repeated in error messages."""


class GenerateRequest(Frozen):
    """Answers to all prompts by all policies in all modes, with the same random numbers."""

    prompts: list[str] = Field(min_length=1, max_length=256)
    """Plain texts; each is rendered as one user turn where the model has a chat template."""
    policies: list[PolicyRef] = Field(min_length=1, max_length=8)
    backspace: list[bool] = Field(min_length=1, max_length=2)
    """[True, False] asks for both modes."""
    decoding: DecodingConfig = DecodingConfig()
    references: list[str | None] = Field(default_factory=list)
    """The expert's answer to each prompt, None where none is known; for the reader alone."""


class ActionCell(Frozen):
    """One action of a policy."""

    id: int
    text: str
    """What the token adds to the text; empty for backspace."""
    is_backspace: bool
    is_stop: bool = False
    """True for the stop token, whose text is its name."""


class GenerateChunk(Frozen):
    """The next actions of one answer. Chunks of one answer come in order and are to be joined."""

    policy_index: int
    backspace: bool
    prompt_index: int
    actions: list[ActionCell] = Field(default_factory=list)
    is_done: bool = False
    """True in the last chunk of this answer."""
    text: str | None = None
    """In the last chunk: what stands at the end, special tokens left out."""
    is_finished: bool | None = None
    """In the last chunk: False where a limit ended the answer before the stop token."""
    num_actions: int | None = None
    num_deletions: int | None = None
    num_tokens: int | None = None
    """In the last chunk: tokens that stand at the end, the stop token among them."""
    has_backspace: bool | None = None
    """In the last chunk: False where the policy has no such action, whatever was asked for."""
    error: str | None = None
    """Why this policy gave no answer; the other policies go on."""


class TokenViewRequest(Frozen):
    """One row as the model will see it."""

    dataset_id: str
    row_index: int = Field(ge=0)
    base_model: str
    objective: ObjectiveConfig
    max_tokens: int = Field(ge=8, le=8192)
    seed: int = Field(ge=0)


class TokenCell(Frozen):
    """One position of a row."""

    text: str
    id: int
    part: TokenPart
    is_supervised: bool
    label_text: str = ""
    """What the policy is asked for here; empty where it is not asked."""


class TokenViewResult(Frozen):
    """The tokens of one row, in order."""

    tokens: list[TokenCell]


class LengthSummaryRequest(Frozen):
    """The lengths of a set's rows for one model, and whether it can be trained on."""

    dataset_id: str
    base_model: str
    max_tokens: int = Field(ge=8, le=8192)


class LengthSummaryResult(Frozen):
    """Lengths of prompt and answer together, in tokens."""

    bins: list[tuple[int, int, int]]
    """(first length, last length, number of rows), in order."""
    num_rows: int
    num_too_long: int
    num_unsupervised: int
    """Rows without a supervised token."""
    num_stop_trained: int
    """Rows whose stop token is trained."""
    refusal: str = ""
    """Why this set cannot be trained on; empty where it can."""


class PrepareModelRequest(Frozen):
    """Prepares a packaged model: obtains, verifies and converts its weights."""

    name: str


class PrepareModelProgress(Frozen):
    """One line of progress."""

    line: str
