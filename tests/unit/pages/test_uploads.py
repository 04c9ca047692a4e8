"""Uploaded files wait under a random token, and nowhere else."""

import os
from pathlib import Path

import pytest

from pages import uploads
from seqmatch.errors import DemonstrationError


def _file(folder: Path, name: str, text: str = "{}") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return str(folder / name)


def test_files_are_moved_out_of_the_cache(tmp_path: Path) -> None:
    sources = [_file(tmp_path / "cache/a", "rows.jsonl"), _file(tmp_path / "cache/b", "rows.jsonl")]
    token = uploads.take(tmp_path, sources)
    found = uploads.paths(tmp_path, token)
    assert [path.name for path in found] == ["2-rows.jsonl", "rows.jsonl"]
    assert not any(Path(source).exists() for source in sources)
    assert uploads.folder_of(tmp_path, token).stat().st_mode & 0o077 == 0
    uploads.discard(tmp_path, token)
    with pytest.raises(DemonstrationError, match="upload the files again"):
        uploads.paths(tmp_path, token)


@pytest.mark.parametrize("token", ["", "..", "../runs", "/etc", "A" * 32, "0" * 31, "0" * 32])
def test_only_a_token_of_an_upload_opens_one(tmp_path: Path, token: str) -> None:
    _file(tmp_path / "uploads", "seen.txt")
    with pytest.raises(DemonstrationError):
        uploads.paths(tmp_path, token)
    uploads.discard(tmp_path, token)
    assert (tmp_path / "uploads" / "seen.txt").exists()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("rows.jsonl", "rows.jsonl"),
        ("../../e vil.jsonl", "e vil.jsonl"),
        ("..", "upload"),
        ("-rf;x.csv", "rf;x.csv"),
        ("a\u202elnosj.exe", "alnosj.exe"),
        ("C:\\a\\b.csv", "b.csv"),
        ("näme.csv", "näme.csv"),
    ],
)
def test_names_show_what_they_are(name: str, safe: str) -> None:
    assert uploads.safe_name(name) == safe


def test_uploads_of_yesterday_are_forgotten(tmp_path: Path) -> None:
    old = uploads.take(tmp_path, [_file(tmp_path / "c", "a.txt")], now=0.0)
    os.utime(uploads.folder_of(tmp_path, old), (0, 0))
    new = uploads.take(tmp_path, [_file(tmp_path / "c", "b.txt")], now=uploads.KEPT_SECONDS + 1)
    with pytest.raises(DemonstrationError):
        uploads.paths(tmp_path, old)
    assert uploads.paths(tmp_path, new)


def test_an_upload_of_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match="between 1 and"):
        uploads.take(tmp_path, [])
