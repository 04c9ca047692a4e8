"""Checkpoints of a run: folders `step-00000250`, complete or absent (see `durable_files`).

The step is in the name, so the newest is known without opening any; whether one can be used is
known only by reading it against its hashes, which is what resuming does.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqmatch.durable_files import new_folder, verify_folder
from seqmatch.errors import CheckpointError

_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint; its files may have been damaged since."""

    step: int
    """Batches done when it was written."""
    folder: Path


def published(checkpoints: Path) -> list[Checkpoint]:
    """Returns the checkpoints of a folder, the newest first; none where there is no folder."""
    if not checkpoints.is_dir():
        return []
    found = [
        Checkpoint(int(match[1]), path)
        for path in checkpoints.iterdir()
        if (match := _NAME.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step, reverse=True)


def publish(
    checkpoints: Path, step: int, write_files: Callable[[Path], None], *, keep: int
) -> Checkpoint:
    """Writes the checkpoint of `step`, verifies it, and then deletes older ones.

    Args:
        checkpoints: The folder of a run's checkpoints.
        step: Batches done, at least 0.
        write_files: Called with an empty folder to fill.
        keep: How many verified checkpoints stay, at least 1.

    Raises:
        OSError: It could not be written; the older ones are untouched.
        CheckpointError: What was written does not read back; the older ones are untouched.
    """
    checkpoint = Checkpoint(step, checkpoints / f"step-{step:08d}")
    with new_folder(checkpoint.folder) as folder:
        write_files(folder)
    verify_folder(checkpoint.folder)
    _delete_older(checkpoints, keep)
    return checkpoint


def newest_verified(
    checkpoints: Path, on_unusable: Callable[[Checkpoint, str], None]
) -> Checkpoint | None:
    """Returns the newest checkpoint whose files agree with their hashes, or None.

    Changes nothing, so any process may look while another one writes. `on_unusable` is told of
    each damaged one that was passed over, and why.
    """
    for checkpoint in published(checkpoints):
        reason = _damage(checkpoint)
        if reason is None:
            return checkpoint
        on_unusable(checkpoint, reason)
    return None


def _delete_older(checkpoints: Path, keep: int) -> None:
    num_verified = 0
    for checkpoint in published(checkpoints):
        if num_verified >= keep:
            shutil.rmtree(checkpoint.folder, ignore_errors=True)
        elif _damage(checkpoint) is None:
            num_verified += 1


def _damage(checkpoint: Checkpoint) -> str | None:
    try:
        verify_folder(checkpoint.folder)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{checkpoint.folder.name} cannot be read: {error}"
    return None
