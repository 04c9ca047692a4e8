"""The tables. They never leave this package, which hands out the records of `storage.records`.

Rows refer to a run by its `number`, a small integer; the outside knows it by its random `id` only.
Every constraint has a name by rule, so that a migration can address it.
"""

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from storage.records import ControlRequest, RunStatus, TaskStatus

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, values: type[RunStatus | ControlRequest | TaskStatus]) -> CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


def _run_number(*, is_key: bool) -> Column[int]:
    return Column(
        "run_number",
        ForeignKey("runs.number", ondelete="CASCADE"),
        nullable=False,
        primary_key=is_key,
    )


datasets = Table(
    "datasets",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", Text, nullable=False),
    Column("num_rows", Integer, nullable=False),
    Column("num_refused", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("summary_json", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("config_json", Text, nullable=False),
    Column("objective", Text, nullable=False),
    Column("divergence", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("dataset_id", ForeignKey("datasets.id", ondelete="RESTRICT"), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("device", String, nullable=False),
    Column("parent_id", ForeignKey("runs.id", ondelete="SET NULL")),
    Column("group", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("control", String, nullable=False),
    Column("phase", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("steps_per_second", Float),
    Column("attempt", Integer, nullable=False),
    Column("num_crashes", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("queued_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("alive_at", Float),
    Column("progress_at", Float),
    Column("lease_until", Float),
    Column("runner", Text, nullable=False),
    Column("error_kind", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("peak_memory_bytes", Integer),
    Column("deleted_at", Float),
    # The last number given to a metric point; never decreases, so that cursors stay valid.
    Column("metric_seq", Integer, nullable=False),
    # Cursors below this one have seen points that were dropped since.
    Column("metric_reset_seq", Integer, nullable=False),
    _one_of("status", RunStatus),
    _one_of("control", ControlRequest),
    Index(None, "status", "queued_at"),
    Index(None, "dataset_id"),
    Index(None, "parent_id"),
    # Numbers are not used twice: a purged run's files can never be taken for a new run's.
    sqlite_autoincrement=True,
)

device_slots = Table(
    "device_slots",
    metadata,
    Column("name", String, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("is_retired", Boolean, nullable=False),
    # Of several slots, where the run trains on several devices.
    Column("run_number", ForeignKey("runs.number", ondelete="RESTRICT")),
)

metric_series = Table(
    "metric_series",
    metadata,
    Column("id", Integer, primary_key=True),
    _run_number(is_key=False),
    Column("name", String, nullable=False),
    UniqueConstraint("run_number", "name"),
)

metric_points = Table(
    "metric_points",
    metadata,
    Column(
        "series_id",
        ForeignKey("metric_series.id", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    Column("step", Integer, primary_key=True),
    Column("value", Float),
    Column("seq", Integer, nullable=False),
    Index(None, "series_id", "seq"),
    sqlite_with_rowid=False,
)

samples = Table(
    "samples",
    metadata,
    _run_number(is_key=True),
    Column("step", Integer, primary_key=True),
    Column("index", Integer, primary_key=True),
    Column("payload_json", Text, nullable=False),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("number", Integer, primary_key=True),
    _run_number(is_key=False),
    Column("at", Float, nullable=False),
    Column("level", String, nullable=False),
    Column("code", String, nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "run_number"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", String, primary_key=True),
    _run_number(is_key=False),
    Column("kind", String, nullable=False),
    # Relative to the run's folder, with forward slashes.
    Column("path", Text, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("sha256", String, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("run_number", "path"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("payload_json", Text, nullable=False),
    Column("status", String, nullable=False),
    Column("worker", Text, nullable=False),
    Column("num_starts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("error_message", Text, nullable=False),
    Column("is_cancel_requested", Boolean, nullable=False),
    # The last number given to a piece of output; never decreases.
    Column("output_seq", Integer, nullable=False),
    _one_of("status", TaskStatus),
    Index(None, "status"),
    sqlite_autoincrement=True,
)

task_outputs = Table(
    "task_outputs",
    metadata,
    Column(
        "task_number",
        ForeignKey("tasks.number", ondelete="CASCADE"),
        primary_key=True,
        nullable=False,
    ),
    Column("seq", Integer, primary_key=True),
    Column("payload_json", Text, nullable=False),
    sqlite_with_rowid=False,
)

settings = Table(
    "settings",
    metadata,
    Column("key", String, primary_key=True),
    Column("value_json", Text, nullable=False),
)
