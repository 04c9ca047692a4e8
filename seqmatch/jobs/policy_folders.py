"""Where the newest policy of a run is. Light: the files are verified, no weight is read."""

from pathlib import Path

from seqmatch.checkpoints import newest_verified
from seqmatch.durable_files import verify_folder
from seqmatch.errors import CheckpointError, ModelLoadError
from storage.records import RunRecord, RunStatus


def policy_folder(run_dir: Path, run: RunRecord) -> Path:
    """Returns where the newest policy of a run is: the final one, or that of its last checkpoint.

    A policy that is damaged is passed over for an older one, without a word: answers beat none.

    Raises:
        ModelLoadError: There is none yet.
    """
    final = run_dir / "policy"
    # A run that was resumed has the final policy of the time before: its checkpoints are newer.
    if run.status not in (RunStatus.RUNNING, RunStatus.QUEUED) and _is_complete(final):
        return final
    newest = newest_verified(run_dir / "checkpoints", lambda *_: None)
    if newest is not None:
        return newest.folder / "policy"
    if _is_complete(final):
        return final
    raise ModelLoadError(
        f"run {run.id} ({run.name}) is {run.status} at step {run.step} and has saved no policy "
        "yet; it saves one with its first checkpoint"
    )


def policy_step(folder: Path, run: RunRecord) -> int:
    """Returns the step of the policy in a folder that `policy_folder` returned."""
    checkpoint = folder.parent.name
    number = checkpoint.removeprefix("step-")
    return int(number) if checkpoint != number else run.step


def has_policy(run_dir: Path) -> bool:
    """True where a run has saved a policy; the files are not verified."""
    return (run_dir / "policy").is_dir() or any(run_dir.glob("checkpoints/step-*/policy"))


def _is_complete(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except CheckpointError:
        return False
    return True
