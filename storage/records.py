"""What the store hands out: frozen records, never rows. Times are UTC seconds since the epoch."""

from dataclasses import dataclass
from enum import StrEnum


class RunStatus(StrEnum):
    """Where a run stands: QUEUED -> RUNNING -> COMPLETED | FAILED | CANCELLED.

    The last three can be queued again, which resumes from the newest checkpoint.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True where nothing happens any more unless someone asks."""
        return self in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)

    def may_become(self, other: "RunStatus") -> bool:
        """True where the store lets a run pass from this status to the `other` in one step."""
        return other in _NEXT_STATUSES[self]


_NEXT_STATUSES = {
    # At once to FAILED: no device here could ever run it.
    RunStatus.QUEUED: (RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED),
    # Back to QUEUED: a start that died without a word is tried again.
    RunStatus.RUNNING: (
        RunStatus.QUEUED,
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELLED,
    ),
    RunStatus.COMPLETED: (RunStatus.QUEUED,),
    RunStatus.FAILED: (RunStatus.QUEUED,),
    RunStatus.CANCELLED: (RunStatus.QUEUED,),
}


class ControlRequest(StrEnum):
    """What a person asked a run to do."""

    NONE = "none"
    STOP = "stop"
    STOP_AND_SAVE = "stop_and_save"
    KILL = "kill"


class TaskStatus(StrEnum):
    """Where a task of the worker lane stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class DatasetRecord:
    """A frozen set of accepted demonstrations."""

    id: str
    """SHA-256 of its rows, 64 hexadecimal digits."""
    name: str
    num_rows: int
    num_refused: int
    """Rows of the upload that the user agreed to leave out."""
    created_at: float
    summary_json: str
    """What was found in the upload: files, format, mapping, counts of each problem code."""


@dataclass(frozen=True)
class NewRun:
    """What is needed to queue a run; the store does not know what the config means."""

    name: str
    config_json: str
    objective: str
    divergence: str
    base_model: str
    dataset_id: str
    seed: int
    num_steps: int
    device: str = "auto"
    parent_id: str | None = None
    """The run that this one was cloned from."""
    group: str = ""
    """Runs that differ by seed alone share a group; empty for none."""


@dataclass(frozen=True)
class RunRecord:
    """One run: its config, where it stands, and who works on it."""

    id: str
    name: str
    config_json: str
    objective: str
    divergence: str
    base_model: str
    dataset_id: str
    seed: int
    num_steps: int
    device: str
    parent_id: str | None
    group: str
    status: RunStatus
    control: ControlRequest
    phase: str
    """What it is doing, in a few words."""
    step: int
    steps_per_second: float | None
    attempt: int
    """Counts the starts; every write of a worker carries it (the fence)."""
    num_crashes: int
    """Starts in a row that died without reporting; reset by a person's resume."""
    created_at: float
    queued_at: float
    started_at: float | None
    """Start of the current or last attempt."""
    ended_at: float | None
    alive_at: float | None
    """The minder's last sign of life."""
    progress_at: float | None
    """The trainer's last finished step."""
    error_kind: str
    """Empty, or the kind of the failure: an exception's name, "out of memory", "lost"."""
    error_message: str
    peak_memory_bytes: int | None
    device_slot: str | None
    """What it occupies: one slot, or several with commas between them."""
    deleted_at: float | None
    lease_until: float | None = None
    """Until then the claim holds without being renewed; None where nobody has claimed it."""
    runner: str = ""
    """Who claimed it last."""


@dataclass(frozen=True)
class Claim:
    """A run that this worker may start: it owns the attempt until the lease runs out."""

    run: RunRecord
    attempt: int
    device_slot: str
    """Several with commas between them, in the order of the devices that the run names."""


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int
    """Steps that are done."""
    steps_per_second: float | None
    """None where nobody knows yet."""


@dataclass(frozen=True)
class MetricPoint:
    """One point of a curve; `value` is None where the number was not finite."""

    name: str
    step: int
    value: float | None


@dataclass(frozen=True)
class MetricPage:
    """The points written since a cursor. A point seen again replaces the older one."""

    points: tuple[MetricPoint, ...]
    cursor: int
    is_reset: bool = False
    """True where points that the reader may hold were dropped; this page then holds them all."""


@dataclass(frozen=True)
class SampleRecord:
    """One stored answer, as the JSON that the worker wrote."""

    step: int
    index: int
    payload_json: str


@dataclass(frozen=True)
class EventRecord:
    """Something that a person should know about a run."""

    at: float
    level: str
    code: str
    message: str


@dataclass(frozen=True)
class ArtifactRecord:
    """A finished file of a run; addressed by its id, never by a path from outside."""

    id: str
    run_id: str
    kind: str
    """"adapter_zip" is the download; other kinds are free."""
    filename: str
    size_bytes: int
    sha256: str
    created_at: float


@dataclass(frozen=True)
class TaskRecord:
    """One request to the worker lane that keeps models loaded: generate, prepare_model, ..."""

    id: str
    kind: str
    payload_json: str
    status: TaskStatus
    created_at: float
    started_at: float | None
    ended_at: float | None
    error_message: str
    is_cancel_requested: bool


@dataclass(frozen=True)
class TaskOutput:
    """One piece of a task's streamed output."""

    seq: int
    payload_json: str


@dataclass(frozen=True)
class DeviceSlot:
    """A place where one run may train: "cpu:0", "cuda:0"."""

    name: str
    run_id: str | None
