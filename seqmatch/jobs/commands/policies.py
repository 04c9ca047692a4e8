"""Loading the policy of a run, or a base model, for a command."""

import argparse
from pathlib import Path

from seqmatch.base_models import BASE_MODELS
from seqmatch.checkpoints import newest_verified
from seqmatch.config import AdapterConfig
from seqmatch.durable_files import verify_folder
from seqmatch.errors import CheckpointError
from seqmatch.jobs.commands.store_access import CommandError
from seqmatch.policy import Policy, load_policy, load_saved_policy
from seqmatch.run_start import torch_device
from storage import RunStore
from storage.records import RunRecord


def add_allowed_models(parser: argparse.ArgumentParser) -> None:
    """Adds --allow-model and --device."""
    parser.add_argument(
        "--allow-model",
        action="append",
        default=[],
        metavar="NAME",
        help="a folder or hub id that may be loaded besides the built-in models; repeatable",
    )
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1"
    )


def run_policy(store: RunStore, run: RunRecord, arguments: argparse.Namespace) -> Policy:
    """Returns the final policy of a run, or that of its newest checkpoint.

    Raises:
        CommandError: It has neither yet.
        ModelLoadError: It cannot be loaded.
    """
    return load_saved_policy(
        policy_folder(store.run_dir(run.id), run),
        device=torch_device(arguments.device),
        models_dir=arguments.data_dir / "models",
        allowed=arguments.allow_model,
    )


def base_policy(base_model: str, arguments: argparse.Namespace) -> Policy:
    """Returns a base model without anything trained, and without backspace.

    Raises:
        ModelLoadError: It is not known, not allowed or not there.
    """
    known = BASE_MODELS.get(base_model)
    kind = known.default_adapter if known else "lora"
    return load_policy(
        base_model,
        AdapterConfig(kind=kind),
        backspace=False,
        seed=0,
        device=torch_device(arguments.device),
        models_dir=arguments.data_dir / "models",
        allowed=arguments.allow_model,
    )


def policy_folder(run_dir: Path, run: RunRecord) -> Path:
    """Returns where the newest policy of a run is.

    Raises:
        CommandError: There is none yet.
    """
    final = run_dir / "policy"
    try:
        verify_folder(final)
    except CheckpointError:
        newest = newest_verified(run_dir / "checkpoints", lambda *_: None)
        if newest is None:
            raise CommandError(
                f"run {run.id} ({run.status.value}, step {run.step}) has saved no policy yet"
            ) from None
        return newest.folder / "policy"
    return final
