"""Training runs on several processes: `python -m tests.several_processes CASES`, once a process.

The cases are a JSON list; each is a run with its own folder, one after the other, so that the
processes start once. The main process writes what was reported, every process how it ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from seqmatch.distributed import RENDEZVOUS_VARIABLE
from seqmatch.errors import SeqMatchError
from seqmatch.reporting import Control
from tests.short_runs import Recorder, train_short

DEADLINE = 120.0


def case(folder: Path, changes: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """One run: the changes of its settings, and `stop_at` which step the owner asks for a stop."""
    return {"folder": str(folder), "changes": changes, **more}


@contextmanager
def processes(cases: Sequence[Mapping[str, Any]], folder: Path, size: int = 2) -> Iterator[Any]:
    """Starts the processes that run these cases; none of them lives afterwards."""
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    started = []
    try:
        for rank in range(size):
            variables = {"RANK": rank, "LOCAL_RANK": rank}
            variables |= {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "OMP_NUM_THREADS": 1}
            environment = {**os.environ, **{name: str(it) for name, it in variables.items()}}
            with (folder / f"process-{rank}.log").open("wb") as log:
                started.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.several_processes", str(path)],
                        env=environment,
                        stdout=log,
                        stderr=log,
                    )
                )
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def run_all(cases: Sequence[Mapping[str, Any]], folder: Path, size: int = 2) -> None:
    """Runs the cases to their end."""
    with processes(cases, folder, size) as started:
        for rank, process in enumerate(started):
            code = process.wait(DEADLINE)
            assert code == 0, (folder / f"process-{rank}.log").read_text()[-4000:]


def reported(folder: Path) -> dict[tuple[str, int], float]:
    """What the main process of a case reported, as `Recorder.values`."""
    rows = json.loads((folder / "reported.json").read_text())["values"]
    return {(name, step): value for name, step, value in rows}


def events(folder: Path) -> list[tuple[str, str]]:
    """The events that the main process of a case reported."""
    return [
        (code, text) for code, text in json.loads((folder / "reported.json").read_text())["events"]
    ]


def ends(folder: Path, size: int = 2) -> list[dict[str, Any]]:
    """How each process of a case ended: status and step, or the error."""
    return [json.loads((folder / f"end-{rank}.json").read_text()) for rank in range(size)]


def _run(given: Mapping[str, Any], rank: int) -> None:
    folder = Path(given["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[RENDEZVOUS_VARIABLE] = str(folder / "rendezvous")
    answer = Control(given.get("answer", "stop_and_save"))
    recorder = Recorder(given.get("stop_at", -1), answer)
    try:
        result = train_short(folder, recorder, given["changes"])
        end: dict[str, Any] = {"status": result.status, "step": result.step}
    except SeqMatchError as error:
        end = {"error": type(error).__name__, "message": str(error)}
    (folder / f"end-{rank}.json").write_text(json.dumps(end))
    if rank == 0:
        rows = [(name, step, value) for (name, step), value in recorder.values.items()]
        told = {"values": rows, "events": recorder.events}
        (folder / "reported.json").write_text(json.dumps(told))


if __name__ == "__main__":
    for one in json.loads(Path(sys.argv[1]).read_text()):
        _run(one, int(os.environ["RANK"]))
