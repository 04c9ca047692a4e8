"""The processes of an attempt's trainer: one for each device, started and ended together.

They get the variables that torchrun and `accelerate launch` set, so that the same worker runs under
those too. Neither is used here: the agent of torchrun closes the inherited `tree.lock`, gives its
processes half a minute to end, and tells of a death in the words of a log only.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqmatch.jobs import attempt_files
from seqmatch.jobs.environment import ROOT, python_module
from seqmatch.jobs.process_tokens import signal_all

PEER_LOST = 4
"""Exit code of a worker that ended because another one had."""
PEER_SECONDS = 10.0
"""How long the others may live once one has died, or the main one has ended."""
_LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


class TrainerProcesses:
    """The trainer of an attempt; the first process is the main one, which reports and writes."""

    def __init__(self, processes: Sequence["subprocess.Popen[bytes]"], rendezvous: Path) -> None:
        self._processes = processes
        self._rendezvous = rendezvous
        self._codes: dict[int, int] = {}
        """Of those that ended, in the order in which they did; a signal is negative."""
        self._deadline = float("inf")

    @classmethod
    def start(
        cls,
        run_dir: Path,
        attempt: int,
        arguments: Sequence[str],
        *,
        count: int,
        environment: Mapping[str, str],
        tree_lock: int,
    ) -> "TrainerProcesses":
        """Starts `count` workers with these arguments.

        All of them inherit the descriptor `tree_lock`, and write to the attempt's one log.
        """
        rendezvous = attempt_files.rendezvous_path(run_dir, attempt)
        rendezvous.unlink(missing_ok=True)
        log = attempt_files.log_path(run_dir, attempt)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(log, flags, 0o600)
        started: list[subprocess.Popen[bytes]] = []
        made = cls(started, rendezvous)
        try:
            for number in range(count):
                started.append(
                    subprocess.Popen(
                        python_module("seqmatch.jobs.worker", *arguments),
                        stdin=subprocess.DEVNULL,
                        stdout=descriptor,
                        stderr=descriptor,
                        env={**environment, **_place(number, count, rendezvous)},
                        cwd=ROOT,
                        start_new_session=True,
                        pass_fds=(tree_lock,),
                    )
                )
        except OSError:
            made.kill()
            raise
        finally:
            os.close(descriptor)
        return made

    @property
    def pid(self) -> int:
        """The main process's id; its own until `reap`."""
        return self._processes[0].pid

    def have_ended(self, now: float) -> bool:
        """Tells whether all have ended, or those that are left had their time."""
        fresh = {}
        for number, process in enumerate(self._processes):
            if number not in self._codes and (code := _exit_code(process.pid)) is not None:
                fresh[number] = code
        # Those that ended for the sake of another come after it, though seen at one moment.
        self._codes |= dict(sorted(fresh.items(), key=lambda item: item[1] == PEER_LOST))
        if 0 in self._codes or any(self._codes.values()):
            self._deadline = min(self._deadline, now + PEER_SECONDS)
        return len(self._codes) == len(self._processes) or now >= self._deadline

    def terminate(self) -> None:
        """Asks the main process to end; it tells the others."""
        os.kill(self.pid, signal.SIGTERM)  # not reaped yet, so the pid is still the trainer's

    def kill(self, token: str = "") -> None:
        """Ends all at once, and whatever else holds the token."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        if token:
            signal_all(token, signal.SIGKILL)

    def reap(self) -> dict[str, Any]:
        """Waits for all, which have ended or were killed, and returns how it went.

        Exit code or signal are those of the process that was the first to die, or else of the main
        one; the memory peak is the sum of all.
        """
        peak = 0
        for number, process in enumerate(self._processes):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)  # nothing is left to wait for
            self._codes.setdefault(number, process.returncode)
            peak += usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self._rendezvous.unlink(missing_ok=True)
        died = (item for item in self._codes.items() if item[1] not in (0, PEER_LOST))
        number, code = next(died, (0, self._codes[0]))
        ended: dict[str, Any] = {
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "peak_memory_bytes": peak,
        }
        if len(self._processes) > 1:
            ended |= {"process": number + 1, "num_processes": len(self._processes)}
        return ended


def _place(number: int, count: int, rendezvous: Path) -> dict[str, str]:
    """What a process must know to find the others; nothing where it is alone."""
    if count == 1:
        return {}
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        # A file, not a port: nothing listens that other users of the machine could reach.
        "SEQMATCH_RENDEZVOUS": str(rendezvous),
        "GLOO_SOCKET_IFNAME": _LOOPBACK,
    }


def _exit_code(pid: int) -> int | None:
    """How a child ended, or None; it stays unreaped, so that its pid and group stay its own."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
