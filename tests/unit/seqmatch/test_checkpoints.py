"""Checkpoints are complete or absent; a damaged one is passed over."""

import shutil
from pathlib import Path

import pytest

from seqmatch import export
from seqmatch.checkpoints import Checkpoint, newest_verified, publish, published
from seqmatch.config import DataConfig, RunConfig
from seqmatch.durable_files import MANIFEST, new_folder, remove_unfinished, verify_folder
from seqmatch.errors import CheckpointError
from tests.tiny_models import policy_of, tiny_llama


def _write(text: str = "weights") -> object:
    def write_files(folder: Path) -> None:
        (folder / "policy").mkdir()
        (folder / "policy" / "weights.bin").write_bytes(text.encode())
        (folder / "state.json").write_text("{}", encoding="utf-8")

    return write_files


def _publish(place: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        publish(place, step, _write(f"weights of {step}"), keep=keep)  # type: ignore[arg-type]


def _newest(place: Path) -> tuple[int | None, list[int]]:
    passed_over: list[int] = []
    found = newest_verified(place, lambda checkpoint, reason: passed_over.append(checkpoint.step))
    return (found.step if found else None), passed_over


def test_the_newest_is_found_and_old_ones_go(tmp_path: Path) -> None:
    _publish(tmp_path, 5, 10, 15, 20)

    assert [checkpoint.step for checkpoint in published(tmp_path)] == [20, 15]
    assert _newest(tmp_path) == (20, [])


def test_no_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert published(tmp_path / "none") == []
    assert _newest(tmp_path / "none") == (None, [])


@pytest.mark.parametrize("name", ["policy/weights.bin", "state.json", MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "shorter", "other bytes"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, name: str, damage: str) -> None:
    _publish(tmp_path, 5, 10)
    path = tmp_path / "step-00000010" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        path.write_bytes(content[:-1])
    else:
        path.write_bytes(b"x" * len(content))

    assert _newest(tmp_path) == (5, [10])


def test_a_damaged_checkpoint_does_not_count_as_kept(tmp_path: Path) -> None:
    _publish(tmp_path, 5, 10)
    (tmp_path / "step-00000010" / "state.json").unlink()

    _publish(tmp_path, 15)

    assert [checkpoint.step for checkpoint in published(tmp_path)] == [15, 10, 5]
    _publish(tmp_path, 20)
    assert [checkpoint.step for checkpoint in published(tmp_path)] == [20, 15]


def test_a_failed_write_leaves_nothing_and_the_older_ones(tmp_path: Path) -> None:
    _publish(tmp_path, 5)

    def fails(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        publish(tmp_path, 10, fails, keep=2)

    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_swept(tmp_path: Path) -> None:
    _publish(tmp_path, 5)
    killed = new_folder(tmp_path / "step-00000010")
    folder = killed.__enter__()
    (folder / "state.json").write_text("{}", encoding="utf-8")

    assert _newest(tmp_path) == (5, [])
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_looking_for_the_newest_leaves_a_writer_alone(tmp_path: Path) -> None:
    """Other processes look while a trainer writes, for example to compare a running run."""
    _publish(tmp_path, 5)

    def write_files(folder: Path) -> None:
        _write()(folder)  # type: ignore[operator]
        assert _newest(tmp_path) == (5, [])

    publish(tmp_path, 10, write_files, keep=2)

    assert _newest(tmp_path) == (10, [])


def test_a_folder_that_cannot_be_put_in_place_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _publish(tmp_path, 5)
    rename = Path.rename

    def fails_for_the_new_one(path: Path, target: Path) -> Path:
        if path.name.startswith(".unfinished-"):
            raise OSError("input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)
    with pytest.raises(OSError, match="input/output"):
        publish(tmp_path, 5, _write("again"), keep=2)  # type: ignore[arg-type]

    assert _newest(tmp_path) == (5, [])
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_what_a_kill_between_two_renames_moved_away_comes_back(tmp_path: Path) -> None:
    _publish(tmp_path, 5, 10)
    (tmp_path / "step-00000010").rename(tmp_path / ".replaced-step-00000010-0123abcd")

    remove_unfinished(tmp_path)

    assert _newest(tmp_path) == (10, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000005", "step-00000010"]


def test_what_a_killed_export_left_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a copy of the weights."""

    def kill(folder: Path, _target: Path) -> None:
        shutil.copytree(folder, tmp_path / "run" / folder.name)  # what a kill would leave

    (tmp_path / "run").mkdir()
    monkeypatch.setattr(export, "_write_zip", kill)
    with pytest.raises(FileNotFoundError):
        export.export_run(
            policy_of(tiny_llama()),
            tmp_path / "exports" / "run.zip",
            config=RunConfig(data=DataConfig(dataset="d")),
            dataset_sha256="d",
            metrics_csv="",
            summary={},
        )

    assert list((tmp_path / "run").iterdir())
    remove_unfinished(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_publishing_a_step_again_replaces_it(tmp_path: Path) -> None:
    _publish(tmp_path, 5)

    checkpoint = publish(tmp_path, 5, _write("again"), keep=2)  # type: ignore[arg-type]

    assert checkpoint == Checkpoint(5, tmp_path / "step-00000005")
    assert (checkpoint.folder / "policy" / "weights.bin").read_bytes() == b"again"


def test_a_file_beside_the_manifest_is_no_damage_and_a_foreign_folder_is_ignored(
    tmp_path: Path,
) -> None:
    _publish(tmp_path, 5)
    (tmp_path / "step-00000005" / "note.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "step-latest").mkdir()
    (tmp_path / "step-00000009").touch()

    verify_folder(tmp_path / "step-00000005")
    remove_unfinished(tmp_path)

    assert _newest(tmp_path) == (5, [])


def test_the_reason_names_the_file(tmp_path: Path) -> None:
    _publish(tmp_path, 5)
    (tmp_path / "step-00000005" / "state.json").unlink()

    with pytest.raises(CheckpointError, match=r"step-00000005 lacks state\.json"):
        verify_folder(tmp_path / "step-00000005")
