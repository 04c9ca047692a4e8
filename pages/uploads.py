"""Uploaded files leave the cache of the web server at once and wait here to be checked.

Each upload is a folder `data_dir/uploads/TOKEN`. The token is random and only goes to the browser
that uploaded; a token that does not look like one is refused, so it can never name another place.
"""

import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from seqmatch.errors import DemonstrationError

KEPT_SECONDS = 24 * 3600.0
MAX_FILES = 50
_TOKEN = re.compile(r"[0-9a-f]{32}")


def take(data_dir: Path, files: Sequence[str], *, now: float | None = None) -> str:
    """Moves uploaded files into a new folder and returns its token; forgets uploads of yesterday.

    Raises:
        DemonstrationError: there is no file, or there are too many.
    """
    if not files or len(files) > MAX_FILES:
        raise DemonstrationError(
            f"{len(files)} files were uploaded; between 1 and {MAX_FILES} are allowed at once"
        )
    _forget_old(data_dir, time.time() if now is None else now)
    token = secrets.token_hex(16)
    folder = _root(data_dir) / token
    folder.mkdir(parents=True, mode=0o700)
    for number, source in enumerate(files):
        shutil.move(source, folder / _free_name(folder, Path(source).name, number))
    return token


def paths(data_dir: Path, token: str) -> list[Path]:
    """Returns the files of an upload, in the order of their names.

    Raises:
        DemonstrationError: the token is none, or its upload is gone.
    """
    folder = folder_of(data_dir, token)
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if not found:
        raise DemonstrationError("the upload holds no file; upload the files again")
    return found


def folder_of(data_dir: Path, token: str) -> Path:
    """Returns the folder of an upload.

    Raises:
        DemonstrationError: the token is none, or its upload is gone.
    """
    folder = _root(data_dir) / token
    if not _TOKEN.fullmatch(token) or not folder.is_dir():
        raise DemonstrationError(
            "this upload is no longer here (uploads wait one day); upload the files again"
        )
    return folder


def discard(data_dir: Path, token: str) -> None:
    """Deletes an upload; one that is gone already is fine."""
    if _TOKEN.fullmatch(token):
        shutil.rmtree(_root(data_dir) / token, ignore_errors=True)


def safe_name(name: str) -> str:
    """Returns a file name that shows what it is: no control or direction characters, no folders."""
    base = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in base if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    return kept.lstrip(".-; ")[-120:].strip() or "upload"


def _free_name(folder: Path, name: str, number: int) -> str:
    name = safe_name(name)
    return f"{number + 1}-{name}" if (folder / name).exists() else name


def _root(data_dir: Path) -> Path:
    return data_dir / "uploads"


def _forget_old(data_dir: Path, now: float) -> None:
    root = _root(data_dir)
    if not root.is_dir():
        return
    for folder in root.iterdir():
        if _TOKEN.fullmatch(folder.name) and folder.stat().st_mtime < now - KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
