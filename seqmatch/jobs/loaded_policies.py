"""The policies and tokenizers that the lane keeps loaded, by where their weights are."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from seqmatch.base_models import BASE_MODELS
from seqmatch.checkpoints import newest_verified
from seqmatch.config import AdapterConfig
from seqmatch.durable_files import verify_folder
from seqmatch.errors import CheckpointError, ModelLoadError
from seqmatch.jobs.task_types import PolicyRef
from seqmatch.policy import Policy, load_policy, load_saved_policy
from seqmatch.run_start import torch_device
from storage import RunStore
from storage.records import RunRecord, RunStatus

MAX_LOADED = 3
Value = TypeVar("Value")


class LoadedPolicies:
    """Loads policies, and forgets the one that was not used for longest."""

    def __init__(self, store: RunStore, max_loaded: int = MAX_LOADED) -> None:
        self._store = store
        self._max_loaded = max_loaded
        self._loaded: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, ref: PolicyRef) -> Policy:
        """Returns a policy, ready to answer.

        Raises:
            ModelLoadError: It cannot be loaded, or the run has saved none yet.
            NotFoundError: There is no such run.
        """
        if ref.kind == "base":
            return self.base(ref.base_model or "")
        run = self._store.runs.get(ref.run_id or "")
        folder = policy_folder(self._store.run_dir(run.id), run)
        # A folder that was written anew is another one.
        key = (str(folder), folder.stat().st_ino, folder.stat().st_mtime_ns)
        return self._kept(key, lambda: self._saved(folder))

    def base(self, name: str) -> Policy:
        """Returns a base model as it is, without backspace.

        Raises:
            ModelLoadError: It is not known, not allowed, or not there.
        """
        known = BASE_MODELS.get(name)
        kind = known.default_adapter if known else "lora"

        def load() -> Policy:
            return load_policy(
                name,
                AdapterConfig(kind=kind),
                False,
                seed=0,
                device=torch_device("auto"),
                models_dir=self._store.data_dir / "models",
                allowed=self._allowed(),
            )

        return self._kept(("base", name), load)

    def _saved(self, folder: Path) -> Policy:
        return load_saved_policy(
            folder,
            device=torch_device("auto"),
            models_dir=self._store.data_dir / "models",
            allowed=self._allowed(),
        )

    def _allowed(self) -> tuple[str, ...]:
        return tuple(self._store.settings.get("allowed_models", []))

    def _kept(self, key: Hashable, load: Callable[[], Value]) -> Value:
        if key not in self._loaded:
            while len(self._loaded) >= self._max_loaded:
                self._loaded.popitem(last=False)
            self._loaded[key] = load()
        self._loaded.move_to_end(key)
        value: Value = self._loaded[key]
        return value


def policy_folder(run_dir: Path, run: RunRecord) -> Path:
    """Returns where the newest policy of a run is: the final one, or that of its last checkpoint.

    Raises:
        ModelLoadError: There is none yet.
    """
    final = run_dir / "policy"
    if run.status is not RunStatus.RUNNING and _is_complete(final):
        return final
    newest = newest_verified(run_dir / "checkpoints", lambda *_: None)
    if newest is not None:
        return newest.folder / "policy"
    if _is_complete(final):
        return final
    raise ModelLoadError(
        f"run {run.name!r} is {run.status} at step {run.step} and has saved no policy yet; "
        "it saves one with its first checkpoint"
    )


def _is_complete(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except CheckpointError:
        return False
    return True
