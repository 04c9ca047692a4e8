"""Training runs on several processes: `python -m tests.several_processes CASES`, once a process.

The cases are a JSON list; each is a run with its own folder, one after the other, so that the
processes start once. The main process writes what was reported, every process how it ended.
`accelerate launch` starts them, as anyone may start the worker.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from seqmatch import gradients, run_steps
from seqmatch.distributed import RENDEZVOUS_VARIABLE, World, joined
from seqmatch.errors import ConfigError, SeqMatchError
from seqmatch.reporting import Control
from tests.short_runs import Recorder, train_short

DEADLINE = 120.0
TALK = "talk"
GRADIENTS = "accumulate_gradients"


def case(folder: Path, changes: Mapping[str, Any] | str, **more: Any) -> dict[str, Any]:
    """One run: the changes of its settings, and `stop_at` which step the owner says `answer`.

    `short_of_memory` is a process whose third step does not fit its accelerator.
    With `TALK` for changes, what the processes tell each other is tried instead.
    """
    return {"folder": str(folder), "changes": changes, **more}


def run_all(cases: Sequence[Mapping[str, Any]], folder: Path, size: int = 2) -> None:
    """Runs the cases to their end on so many processes."""
    path = folder / "cases.json"
    path.write_text(json.dumps(cases))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", str(size), "--num_machines", "1", "--main_process_port", "0"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["-m", "tests.several_processes", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]


def reported(folder: Path) -> dict[tuple[str, int], float]:
    """What the main process of a case reported, as `Recorder.repeatable`."""
    rows = json.loads((folder / "reported.json").read_text())["values"]
    return {(name, step): value for name, step, value in rows}


def events(folder: Path) -> list[str]:
    """The codes of the events that the main process of a case reported, as `Recorder.codes`."""
    recorder = Recorder()
    recorder.events = json.loads((folder / "reported.json").read_text())["events"]
    return recorder.codes


def ends(folder: Path, size: int = 2) -> list[Any]:
    """How each process of a case ended: status and step, or the error."""
    return [json.loads((folder / f"end-{rank}.json").read_text()) for rank in range(size)]


def _train(given: Mapping[str, Any], folder: Path, rank: int) -> list[Any]:
    answer = Control(given.get("answer", Control.STOP_AND_SAVE))
    recorder = Recorder(given.get("stop_at", -1), answer)
    if given.get("short_of_memory") == rank:
        vars(run_steps)[GRADIENTS] = _third_fails(gradients.accumulate_gradients)
    try:
        result = train_short(folder, recorder, given["changes"])
    except SeqMatchError as error:
        return [type(error).__name__, str(error)]
    finally:
        vars(run_steps)[GRADIENTS] = gradients.accumulate_gradients
    if rank == 0:
        rows = [(name, step, value) for (name, step), value in recorder.repeatable().items()]
        told = {"values": rows, "events": recorder.events}
        (folder / "reported.json").write_text(json.dumps(told))
    return [result.status, result.step]


def _third_fails(work: Callable[..., Any]) -> Callable[..., Any]:
    """The function, out of memory at its third call and after half of its work."""
    calls = count()

    def works(*arguments: Any, **more: Any) -> Any:
        found = work(*arguments, **more)
        if next(calls) == 2:
            raise torch.OutOfMemoryError("no room for a third")
        return found

    return works


def _talk(world: World) -> list[Any]:
    """What the processes tell each other, one thing after the other."""

    def refuse() -> None:
        raise ConfigError(f"refused in process {world.rank}")

    found: list[Any] = [
        world.size,
        world.spread(range(5), lambda rows: [row * row for row in rows]),
    ]
    found += [world.spread([7], lambda rows: [row + 1 for row in rows])]
    tensors = [torch.full((2,), world.rank + 1.0), torch.ones(1, 3, dtype=torch.float64)]
    world.add_up(tensors)
    found += [each.tolist() for each in tensors]
    mine = torch.tensor([world.rank + 5.0])
    world.copy_from_main([mine])
    found += [mine.tolist(), world.from_main(lambda: f"of {world.rank}")]
    try:
        world.from_main(refuse)
    except ConfigError as error:
        found.append(str(error))
    if world.is_main:
        world.call("now")
    world.gather(None)
    return [*found, world.has_heard("now"), world.has_heard("never")]


def _run(given: Mapping[str, Any], number: int, rank: int) -> None:
    folder = Path(given["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    if number:  # the first finds the others as its launcher says, the others by a file
        os.environ[RENDEZVOUS_VARIABLE] = str(folder / "rendezvous")
    if given["changes"] == TALK:
        with joined("cpu,cpu") as world:
            end = _talk(world)
    else:
        end = _train(given, folder, rank)
    (folder / f"end-{rank}.json").write_text(json.dumps(end))


if __name__ == "__main__":
    for at, one in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        _run(one, at, int(os.environ["RANK"]))
