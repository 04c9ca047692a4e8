"""What an inspection is asked and what it answers, as frozen values that cross a process border."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from seqmatch.ingest.codes import Severity
from seqmatch.objectives.base import Frozen

DataFormat = Literal["prompt_completion", "alpaca", "messages", "sharegpt", "text"]
FileKind = Literal["jsonl", "json_array", "delimited", "parquet", "text", "unreadable"]

MEGABYTE = 1_000_000


class FormatInfo(Frozen):
    """One way in which a row can be a demonstration, for forms and documents."""

    title: str
    sentence: str
    required: tuple[str, ...]
    """The fields that the mapping must give a column."""
    optional: tuple[str, ...] = ()


FORMATS: dict[DataFormat, FormatInfo] = {
    "prompt_completion": FormatInfo(
        title="Prompt and answer",
        sentence="One column holds the prompt, another the answer.",
        required=("prompt", "completion"),
        optional=("system",),
    ),
    "alpaca": FormatInfo(
        title="Instruction, input, output (Alpaca)",
        sentence="The prompt is the instruction and, after an empty line, the input if there is "
        "one; the output is the answer.",
        required=("instruction", "output"),
        optional=("input", "system"),
    ),
    "messages": FormatInfo(
        title="Messages with role and content (OpenAI chat)",
        sentence="Each assistant message is an answer to the messages before it.",
        required=("messages",),
        optional=("system",),
    ),
    "sharegpt": FormatInfo(
        title="Conversations with from and value (ShareGPT)",
        sentence="Each turn of gpt is an answer to the turns before it.",
        required=("conversations",),
        optional=("system",),
    ),
    "text": FormatInfo(
        title="Plain text",
        sentence="Each text is an answer to an empty prompt.",
        required=("text",),
    ),
}


class Limits(Frozen):
    """What an upload may cost. Sizes in bytes, times in seconds."""

    max_file_bytes: int = Field(50 * MEGABYTE, ge=1)
    max_total_bytes: int = Field(100 * MEGABYTE, ge=1)
    max_rows: int = Field(200_000, ge=1)
    max_row_bytes: int = Field(MEGABYTE, ge=1)
    max_unpacked_bytes: int = Field(400 * MEGABYTE, ge=1)
    """All demonstrations together, and the text of a Parquet file when unpacked."""
    max_depth: int = Field(32, ge=1, le=200)
    max_columns: int = Field(1000, ge=1)
    max_digits: int = Field(1000, ge=1, le=4000)
    max_problems: int = Field(1000, ge=1)
    """Problems beyond this number are counted but not described."""
    memory_bytes: int = Field(2_000 * MEGABYTE, ge=200 * MEGABYTE)
    """Address space of the process that reads."""
    wall_seconds: float = Field(120.0, gt=0.0)
    cpu_seconds: int = Field(120, ge=1)
    read_bytes: int = Field(1 << 18, ge=1)
    """How much is read at once; the result does not depend on it."""


class ColumnMapping(Frozen):
    """Which column of a row plays which part."""

    format: DataFormat
    fields: dict[str, str]
    """Field of the format -> column or key of the file."""
    turns: Literal["all", "last"] = "all"
    """Which assistant turns of a conversation become demonstrations."""

    @model_validator(mode="after")
    def _fields_fit_the_format(self) -> "ColumnMapping":
        info = FORMATS[self.format]
        missing = [name for name in info.required if not self.fields.get(name)]
        unknown = sorted(set(self.fields) - {*info.required, *info.optional})
        if missing or unknown:
            raise ValueError(
                f"the mapping of format {self.format!r} lacks {missing} and has unknown {unknown}; "
                f"required are {list(info.required)}, optional {list(info.optional)}"
            )
        return self


class Problem(Frozen):
    """One problem, at its place."""

    code: str
    severity: Severity
    file: str
    line: int
    """1-based line of the file as uploaded (in Parquet: the row); 0 is the file as a whole."""
    column: str
    """Column or key; empty where there is none."""
    message: str
    """What was found, where, and what is allowed."""
    excerpt: str
    """At most 80 characters of the text in question, without control characters."""


class FileReport(Frozen):
    """What one file holds. `num_rows_read == num_usable + num_refused`."""

    name: str
    kind: FileKind
    num_bytes: int
    mapping: ColumnMapping | None
    """How its rows were read; None where no row could be."""
    columns: tuple[str, ...]
    num_rows_read: int
    num_usable: int
    num_refused: int
    num_demonstrations: int


class UploadReport(Frozen):
    """What an upload holds.

    Rows are rows of the files; a long conversation is one row and several demonstrations.
    """

    files: tuple[FileReport, ...]
    detected: ColumnMapping | None
    """The mapping of the first file with one (the user's own where one was given)."""
    columns: tuple[str, ...]
    problems: tuple[Problem, ...]
    """In the order of the files; the first `Limits.max_problems`, errors before warnings."""
    counts: dict[str, int]
    """Code -> number of problems, also of those that are not listed."""
    num_rows_read: int
    num_usable: int
    num_refused: int
    num_demonstrations: int
    rows_path: Path | None
    """The canonical rows, ready to be frozen; None where no row is usable."""

    @property
    def num_problems(self) -> int:
        """All problems, listed or not."""
        return sum(self.counts.values())
