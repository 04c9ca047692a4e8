"""Processes known by a random token in their environment, and signals that reach no other process.

A pid alone names a process only until it is used again. Here a process is one of ours only while
its environment holds the token of the attempt, and on Linux the signal goes through a descriptor
that was opened before that was checked, so that it cannot reach a successor of the pid.
"""

import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from seqmatch.jobs.atomic_json import read_json, write_json
from seqmatch.jobs.environment import TOKEN_VARIABLE

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class AttemptIdentity:
    """What finds the processes of an attempt again; written before the first of them starts."""

    token: str
    boot_id: str
    pid_namespace: str
    """Containers share the machine's boot id but not its pids."""
    pid: int | None = None
    """The trainer; None in the moment before it starts."""
    started_at: float | None = None
    """Its start, in seconds since the epoch, as the kernel tells."""

    @property
    def is_of_this_boot(self) -> bool:
        """False where its processes ended with an earlier boot, or live in another container."""
        return (self.boot_id, self.pid_namespace) == (boot_id(), pid_namespace())

    def write(self, path: Path) -> None:
        """Writes it, to be read by `read_identity`."""
        write_json(path, asdict(self))


def read_identity(path: Path) -> AttemptIdentity | None:
    """Returns what `AttemptIdentity.write` wrote, or None where there is none."""
    value = read_json(path)
    try:
        return None if value is None else AttemptIdentity(**value)
    except TypeError:
        return None


def boot_id() -> str:
    """Returns the id of this boot of the machine; its boot time where the system has no id."""
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return str(int(psutil.boot_time()))


def pid_namespace() -> str:
    """Returns the id of the pid namespace; empty where the system has none."""
    return str(_PID_NAMESPACE.readlink()) if _PID_NAMESPACE.is_symlink() else ""


def start_time(pid: int) -> float | None:
    """Returns when a process started, or None where it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def living(token: str) -> Iterator[psutil.Process]:
    """Yields the processes whose environment holds the token."""
    for process in psutil.process_iter():
        if _has_token(process, token):
            yield process


def signal_all(token: str, number: signal.Signals) -> int:
    """Sends a signal to every process that holds the token; returns how many there were."""
    return sum(_send(process, token, number) for process in living(token))


def _has_token(process: psutil.Process, token: str) -> bool:
    try:
        return process.environ().get(TOKEN_VARIABLE) == token
    except (psutil.Error, OSError):
        return False


def _send(process: psutil.Process, token: str, number: signal.Signals) -> bool:
    if not hasattr(os, "pidfd_open"):
        try:
            process.send_signal(number)  # checks the start time
        except psutil.Error:
            return False
        return True
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        if not _has_token(process, token):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
