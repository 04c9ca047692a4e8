"""The policies that can be compared: base models, and runs that have weights."""

from collections.abc import Callable, Sequence

from pages.presenters.training_choices import model_choices
from seqmatch.errors import ConfigError
from seqmatch.jobs.task_types import PolicyRef
from storage.records import RunRecord, RunStatus


def policy_choices(
    runs: Sequence[RunRecord], allowed: Sequence[str], has_policy: Callable[[str], bool]
) -> list[tuple[str, str]]:
    """Returns (shown, value) of each policy: the runs, the newest first, then the base models.

    `has_policy` tells of a run's id whether weights of it are saved.
    """
    usable = [run for run in runs if run.deleted_at is None and has_policy(run.id)]
    trained = [(_run_label(run), f"run:{run.id}") for run in usable]
    return trained + [(f"Base: {title}", f"base:{name}") for title, name in model_choices(allowed)]


def policy_ref(value: str, choices: Sequence[tuple[str, str]]) -> PolicyRef:
    """Returns what the worker lane is asked for.

    Raises:
        ConfigError: a value that is none of the choices.
    """
    for shown, known in choices:
        if known == value:
            kind, _, name = value.partition(":")
            if kind == "base":
                return PolicyRef(kind="base", base_model=name, run_id=None, label=shown)
            return PolicyRef(kind="run", base_model=None, run_id=name, label=shown)
    raise ConfigError(f"policy {value[:80]!r} is not here any more; choose another one")


def policy_value(ref: PolicyRef) -> str:
    """Returns the choice that a reference was made from."""
    return f"base:{ref.base_model}" if ref.kind == "base" else f"run:{ref.run_id}"


def _run_label(run: RunRecord) -> str:
    if run.status is RunStatus.COMPLETED:
        return run.name
    return f"{run.name} (at step {run.step:,})"
