"""What a person can ask of runs: stop, resume, rename, delete and take that back."""

from collections.abc import Sequence
from dataclasses import dataclass

from pages.page import AppContext
from seqmatch.errors import ConfigError
from storage.records import ControlRequest, RunRecord, RunStatus

MAX_NAME = 120


@dataclass(frozen=True)
class Possible:
    """Which actions make sense for a choice of runs."""

    stop: bool
    resume: bool
    one: bool
    """Exactly one run: it can be cloned and renamed."""
    delete: bool


def possible(runs: Sequence[RunRecord]) -> Possible:
    """Returns what may be asked of these runs now."""
    has_active = any(not run.status.is_final for run in runs)
    is_stoppable = any(
        not run.status.is_final and run.control is not ControlRequest.KILL for run in runs
    )
    can_resume = any(
        run.status in (RunStatus.FAILED, RunStatus.CANCELLED) and run.deleted_at is None
        for run in runs
    )
    return Possible(
        stop=has_active and is_stoppable,
        resume=can_resume,
        one=len(runs) == 1,
        delete=bool(runs) and all(run.status is not RunStatus.RUNNING for run in runs),
    )


def stop(context: AppContext, run_ids: Sequence[str], control: ControlRequest) -> str:
    """Asks the active ones of the runs to stop, and says so."""
    active = [run for run in map(context.store.runs.get, run_ids) if not run.status.is_final]
    for run in active:
        context.store.runs.request(run.id, control)
    context.ensure_runner()
    if not active:
        return "None of these runs is active."
    ending = "save and stop" if control is ControlRequest.STOP_AND_SAVE else "stop"
    return f"Asked {names(active)} to {ending}."


def resume(context: AppContext, run_ids: Sequence[str]) -> str:
    """Queues the failed and stopped ones of the runs again, and says so."""
    able = [run for run in map(context.store.runs.get, run_ids) if possible([run]).resume]
    for run in able:
        context.store.runs.requeue(run.id)
    context.ensure_runner()
    if not able:
        return "None of these runs can be resumed: only failed and stopped ones can."
    return f"Resumed {names(able)} from the newest checkpoint."


def rename(context: AppContext, run_id: str, name: str) -> str:
    """Gives a run another name, and says so.

    Raises:
        ConfigError: the name is empty or too long.
    """
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME:
        raise ConfigError(f"a name has 1 to {MAX_NAME} characters; this one has {len(name)}")
    context.store.runs.rename(run_id, name)
    return f"Renamed to {name}."


def delete(context: AppContext, run_ids: Sequence[str]) -> str:
    """Deletes runs that are not running, and says so; `restore` takes it back."""
    deleted = [context.store.runs.delete(run_id) for run_id in run_ids]
    return f"Deleted {names(deleted)}."


def restore(context: AppContext, run_ids: Sequence[str]) -> str:
    """Takes a deletion back, and says so."""
    return f"Brought back {names([context.store.runs.restore(run_id) for run_id in run_ids])}."


def names(runs: Sequence[RunRecord]) -> str:
    """Returns one name, or how many runs these are."""
    return runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
