"""What the store asks of the file system: local disks, private modes, and a lock file."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import UnsupportedFileSystemError

PRIVATE_FOLDER = 0o700
PRIVATE_FILE = 0o600

# Where POSIX locks or shared memory do not reach, or not reliably; "fuse." stands for a whole
# family.
_NETWORK_TYPES = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "ncpfs",
        "afs",
        "9p",
        "lustre",
        "gpfs",
        "beegfs",
        "ceph",
    }
)


def make_private_folder(path: Path) -> None:
    """Makes a folder and its missing parents; only its owner may enter it."""
    path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)


def network_type(path: Path, mounts: str) -> str | None:
    """Returns the type of the network file system that holds `path`, None where it is local.

    Args:
        path: An absolute path without links.
        mounts: The text of /proc/self/mounts.
    """
    best = ("", "")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        place = fields[1].encode().decode("unicode_escape")  # blanks are written \040
        is_above = path == Path(place) or Path(place) in path.parents
        # The later of two mounts on one place hides the earlier.
        if is_above and len(place) >= len(best[0]):
            best = (place, fields[2])
    place, kind = best
    # A container's own root may be of a network type (gVisor's is 9p) without being shared.
    if place == "/":
        return None
    return kind if kind in _NETWORK_TYPES or kind.startswith("fuse.") else None


def refuse_network(folder: Path, table: Path = Path("/proc/self/mounts")) -> None:
    """Refuses a data directory on a network file system, where SQLite's locks do not hold.

    Raises:
        UnsupportedFileSystemError: It is on one. Systems without /proc are not checked.
    """
    if not table.exists():
        return
    kind = network_type(folder.resolve(), table.read_text(encoding="utf-8", errors="replace"))
    if kind is not None:
        raise UnsupportedFileSystemError(
            f"the data directory {folder} is on a network file system ({kind}), where the store's "
            "database would be damaged sooner or later; choose one on a local disk with --data-dir"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for and holds an exclusive lock on a file; the kernel drops it on death."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Presence:
    """A lock shared by all who have the store open; the first of them knows that it is."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.is_first = True
        except BlockingIOError:
            self.is_first = False
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def close(self) -> None:
        """Leaves. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes a file's bytes survive a power cut. Never for a database that this process has open."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
