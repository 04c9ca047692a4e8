"""Migrations: every released schema reaches the code's tables, and a failed step changes nothing.

`schemas/` holds a dump of a store of each released schema, with rows. A new schema adds one.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage import RunStore, schema
from storage.engine import open_engine, sqlite_module
from storage.errors import SchemaVersionError, StorageError
from storage.records import MetricPoint
from storage.tables import metadata
from storage.upgrade import MIGRATIONS, upgrade_database

SCHEMAS = sorted((Path(__file__).parent / "schemas").glob("*.sql"))

STEP = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "{head}"

def upgrade():
    with op.batch_alter_table("runs") as batch:
        batch.add_column(sa.Column("colour", sa.Text, nullable=False, server_default="blue"))
    {more}
"""


@contextmanager
def _connected(database: Path) -> Iterator[Any]:
    with closing(sqlite_module().connect(database, isolation_level=None)) as connection:
        yield connection


def _dump(database: Path) -> dict[str, list[Any]]:
    """The definition and the rows of every table."""
    with _connected(database) as connection:
        tables = connection.execute("SELECT name, sql FROM sqlite_schema").fetchall()
        names = [name for name, sql in tables if sql and sql.startswith("CREATE TABLE")]
        rows = {n: connection.execute(f"SELECT * FROM {n}").fetchall() for n in names}
        return {"": sorted(map(str, tables))} | rows


@pytest.fixture
def frozen(data_dir: Path) -> Path:
    """A store folder whose database is the newest frozen one."""
    return _thaw(SCHEMAS[-1], data_dir)


def _thaw(dump: Path, data_dir: Path) -> Path:
    data_dir.mkdir()
    for name in schema.FOLDERS:
        (data_dir / name).mkdir()
    database = data_dir / schema.DATABASE_NAME
    with _connected(database) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    return database


def _steps(tmp_path: Path, more: str = "") -> Path:
    """Copies the migrations and adds one step that remakes the table that most rows refer to."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    step = STEP.format(head=schema.SCHEMA_VERSION, more=more)
    (folder / "versions" / "9998_colour.py").write_text(step, encoding="utf-8")
    return folder


def test_the_newest_migration_is_the_version_of_the_code() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    revisions = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]

    assert revisions[0] == schema.SCHEMA_VERSION
    assert revisions == sorted(revisions, reverse=True)
    assert [dump.stem for dump in SCHEMAS] == revisions[::-1], "a frozen dump of each"


def _layout(database: Path) -> dict[str, Any]:
    """What SQLite itself knows of the tables: columns, keys, indices, and options of each."""
    found: dict[str, Any] = {}
    with _connected(database) as connection:
        tables = connection.execute("PRAGMA table_list").fetchall()
        for _, table, kind, _, without_rowid, is_strict in sorted(tables):
            if not table.startswith("sqlite_"):
                found[table] = (
                    kind,
                    without_rowid,
                    is_strict,
                    connection.execute(f"PRAGMA table_xinfo('{table}')").fetchall(),
                    connection.execute(f"PRAGMA foreign_key_list('{table}')").fetchall(),
                    sorted(row[1:] for row in connection.execute(f"PRAGMA index_list('{table}')")),
                )
    return found


def test_migrations_and_tables_give_the_same_database(data_dir: Path, tmp_path: Path) -> None:
    RunStore.open(data_dir).close()
    migrated = tmp_path / "migrated"
    with _connected(migrated) as connection:
        connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")

    upgrade_database(migrated, tmp_path / "backup", "none")

    assert _layout(migrated) == _layout(data_dir / schema.DATABASE_NAME)
    engine = open_engine(migrated)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@pytest.mark.parametrize("dump", SCHEMAS, ids=lambda dump: dump.stem)
def test_a_released_schema_opens_with_all_it_holds(data_dir: Path, dump: Path) -> None:
    _thaw(dump, data_dir)

    store = RunStore.open(data_dir)

    child, run = store.runs.list()
    assert (run.name, run.seed, run.step, run.device_slot) == ("first", 3, 7, "cpu:0")
    assert child.parent_id == run.id
    assert store.metrics.read(run.id).points[2:] == (
        MetricPoint("train/loss", 2, None),
        MetricPoint("train/loss", 3, 1.5),
    )
    assert store.notes.events(run.id)[0].message == "it's on"
    assert store.notes.samples(run.id)[0].payload_json == '{"text": "579"}'
    assert [artifact.filename for artifact in store.artifacts.list(run.id)] == ["policy.zip"]
    assert store.tasks.output(store.tasks.list()[0].id)[0].payload_json == "one"
    store.metrics.append(run.id, 1, [MetricPoint("train/loss", 4, 2.0)])
    store.close()


def test_a_step_that_remakes_a_table_keeps_the_rows_that_refer_to_it(
    frozen: Path, tmp_path: Path
) -> None:
    upgrade_database(frozen, tmp_path / "backup", "0001", _steps(tmp_path))

    with _connected(frozen) as connection:
        assert connection.execute("SELECT colour FROM runs").fetchall() == [("blue",)] * 2
        assert connection.execute("SELECT count(*) FROM metric_points").fetchone() == (4,)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    assert version == ("9998",)


def test_the_backup_before_an_upgrade_is_the_old_database(frozen: Path, tmp_path: Path) -> None:
    before = _dump(frozen)

    upgrade_database(frozen, tmp_path / "kept" / "backup", "0001", _steps(tmp_path))

    assert _dump(tmp_path / "kept" / "backup") == before
    assert _dump(frozen) != before


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ("op.execute('INSERT INTO absent VALUES (1)')", StorageError, "no such table: absent"),
        ("op.execute('DELETE FROM runs')", SchemaVersionError, "refer to nothing in .*samples"),
    ],
)
def test_a_failed_step_changes_nothing(
    frozen: Path, tmp_path: Path, more: str, error: type[Exception], words: str
) -> None:
    before = _dump(frozen)

    with pytest.raises(error, match=words):
        upgrade_database(frozen, tmp_path / "backup", "0001", _steps(tmp_path, more))

    assert _dump(frozen) == before


def test_opening_an_older_store_upgrades_it_after_a_backup(
    data_dir: Path, frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of the code is moved up by one, with a step that leads there."""
    monkeypatch.setattr(upgrade_database, "__defaults__", (_steps(tmp_path),))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "9998")

    store = RunStore.open(data_dir)

    assert [run.name for run in store.runs.list()] == ["child", "first"]
    store.close()
    backup = data_dir / "backups" / f"before-9998-from-{SCHEMAS[-1].stem}.sqlite"
    assert backup.stat().st_mode & 0o777 == 0o600
    with _connected(backup) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [
            (SCHEMAS[-1].stem,)
        ]
