"""Loading the policy of a run, or a base model, for a command."""

import argparse

from seqmatch.base_models import BASE_MODELS
from seqmatch.config import AdapterConfig
from seqmatch.distributed import process_device
from seqmatch.jobs.allowed_models import allowed_models, model_location
from seqmatch.jobs.policy_folders import policy_folder
from seqmatch.policy import Policy, load_policy, load_saved_policy
from storage import RunStore
from storage.records import RunRecord


def run_policy(store: RunStore, run: RunRecord, arguments: argparse.Namespace) -> Policy:
    """Returns the final policy of a run, or that of its newest checkpoint.

    Raises:
        ModelLoadError: It has neither yet, or cannot be loaded.
    """
    return load_saved_policy(
        policy_folder(store.run_dir(run.id), run),
        device=process_device(arguments.device),
        models_dir=arguments.data_dir / "models",
        allowed=_allowed(store, arguments),
    )


def base_policy(store: RunStore, base_model: str, arguments: argparse.Namespace) -> Policy:
    """Returns a base model without anything trained, and without backspace.

    Raises:
        ModelLoadError: It is not known, not allowed or not there.
    """
    known = BASE_MODELS.get(base_model)
    kind = known.default_adapter if known else "lora"
    return load_policy(
        model_location(base_model),
        AdapterConfig(kind=kind),
        backspace=False,
        seed=0,
        device=process_device(arguments.device),
        models_dir=arguments.data_dir / "models",
        allowed=_allowed(store, arguments),
    )


def _allowed(store: RunStore, arguments: argparse.Namespace) -> tuple[str, ...]:
    return (*allowed_models(store), *map(model_location, arguments.allow_model))
