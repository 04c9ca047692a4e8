"""The training loop, to be read as a story. Starting in a folder that has checkpoints is resuming.

Every `report_every` steps the means of the training metrics are reported; every so often the policy
is evaluated and a checkpoint is written. A batch whose loss or gradient is not finite changes
nothing; three in a row, or more than one in a hundred of the last thousand, end the run.

What the paper's Algorithm 1 leaves open and is decided here: replayed rollouts are as many as the
demonstrations of a batch, and sampling starts when the loss first needs a rollout, not before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seqmatch.config import RunConfig
from seqmatch.distributed import joined
from seqmatch.reporting import Control, NullReporter, Reporter
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.types import Demonstration


@dataclass(frozen=True)
class TrainResult:
    """How a run ended, and where its results are."""

    status: Literal["completed", "stopped"]
    step: int
    policy_folder: Path | None
    """The saved policy; None where the run was stopped without saving."""
    export_path: Path | None
    """The zip for download; None where the run was stopped without saving."""


def train(
    config: RunConfig,
    demonstrations: Sequence[Demonstration],
    *,
    run_dir: Path,
    models_dir: Path,
    allowed_models: Sequence[str] = (),
    reporter: Reporter,
    dataset_sha256: str,
    metrics_csv: Callable[[], str] | None = None,
) -> TrainResult:
    """Trains a policy on demonstrations, from the newest checkpoint of `run_dir` where it has one.

    Where the environment says that several processes train the run together
    (`seqmatch.distributed`), each of them calls this with the same arguments.

    Args:
        config: Everything that determines the run; where it is resumed, the number of steps, the
            evaluation and the checkpoints may differ from before.
        demonstrations: The accepted rows, in their frozen order.
        run_dir: The run's own folder: `checkpoints/`, and at the end `policy/` and the export.
        models_dir: Where packaged models were prepared.
        allowed_models: Folders and hub ids that may be loaded besides the built-in ones.
        reporter: Hears of everything, and is asked after each step whether to go on; of several
            processes, the main one's.
        dataset_sha256: Identifies the demonstrations; a checkpoint of others is refused.
        metrics_csv: Gives all metrics of the run as CSV for the export; without it the export has
            those reported since this start.

    Returns:
        How it ended. "stopped" where the reporter said so.

    Raises:
        DemonstrationError: There is nothing to train on.
        ModelLoadError: The base model cannot be loaded or cannot be used.
        CheckpointError: The newest usable checkpoint belongs to another run.
        DivergedError: Too many batches gave non-finite numbers.
        PeerLostError: Another of the processes that train the run is gone.
    """
    with joined(config.device) as world:
        run = begin(
            config,
            demonstrations,
            run_dir=run_dir,
            models_dir=models_dir,
            allowed_models=allowed_models,
            reporter=reporter if world.is_main else NullReporter(),
            dataset_sha256=dataset_sha256,
            metrics_csv=metrics_csv,
            world=world,
        )
        return carry_on(run)


def carry_on(run: TrainingRun) -> TrainResult:
    """Trains a run that has begun, from where it is to its end.

    Errors, but for those of reading data and model, are those of `train`.
    """
    control = run.evaluate_if_due()
    while control is Control.GO_ON and run.state.step < run.config.optimization.num_steps:
        control = take_step(run)
    return _finish(run, control)


def take_step(run: TrainingRun) -> Control:
    """Takes one step of the loop, with all that is due before and after it.

    Returns:
        What the owner asks for next; where it asks to stop while rollouts are sampled, no step was
        taken.
    """
    control = run.refresh_rollouts()
    if control is not Control.GO_ON:
        return control
    run.update(run.draw_batch())
    run.report_if_due()
    control = run.ask()
    if control is Control.GO_ON:
        control = run.evaluate_if_due()
    if control is Control.GO_ON:
        run.save_if_due()
    return control


def _finish(run: TrainingRun, control: Control) -> TrainResult:
    is_completed = run.state.step >= run.config.optimization.num_steps
    status: Literal["completed", "stopped"] = "completed" if is_completed else "stopped"
    if control is Control.STOP and not is_completed:
        return TrainResult(status, run.state.step, None, None)
    if is_completed:
        run.tell_of_a_missing_evaluation()
    run.save()
    policy_folder, export_path = run.export()
    return TrainResult(status, run.state.step, policy_folder, export_path)
