"""Locks that say who is alive: the kernel drops them at any death, so nothing has to be cleaned up.

`runner.lock` and `lane.lock` have one holder each; `web.lock` is shared by all processes that show
pages. In a run's folder `shim.lock` means that the attempt is minded and `tree.lock`, which the
trainer and its children inherit, that some process of the attempt lives. They are trusted on local
file systems only, which is all that the store opens on.
"""

import fcntl
import os
import time
from pathlib import Path

_PRIVATE = 0o600
_RETRY_SECONDS = 0.02


class Lock:
    """A held lock. Lives until it is closed or the process, and who inherited it, have died."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Lets go of it here; who inherited it still holds it. May be called twice."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def try_lock(path: Path, *, patience: float = 0.5) -> Lock | None:
    """Takes the lock for this process alone, or returns None where another holds it.

    Args:
        path: The lock file; made where there is none.
        patience: Seconds to try; those who only look at a lock hold it for a moment.
    """
    descriptor = _open(path)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(_RETRY_SECONDS)
        else:
            return Lock(descriptor)


def share_lock(path: Path) -> Lock:
    """Takes a lock that any number of processes hold at once."""
    descriptor = _open(path)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return Lock(descriptor)


def is_held(path: Path) -> bool:
    """Tells whether some process holds the lock alone."""
    return not _can_lock(path, fcntl.LOCK_SH)


def is_shared(path: Path) -> bool:
    """Tells whether some process holds the lock at all."""
    return not _can_lock(path, fcntl.LOCK_EX)


def adopt(descriptor: int) -> Lock:
    """Returns the lock that this process inherited, not to be inherited further."""
    os.set_inheritable(descriptor, False)
    return Lock(descriptor)


def _can_lock(path: Path, kind: int) -> bool:
    if not path.exists():
        return True
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
