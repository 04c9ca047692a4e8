"""The policies and tokenizers that the lane keeps loaded, by where their weights are."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmatch.action_space import ActionSpace
from seqmatch.base_model_loading import load_tokenizer, unembedding_rows
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import AdapterConfig
from seqmatch.distributed import process_device
from seqmatch.jobs.allowed_models import allowed_models
from seqmatch.jobs.policy_folders import policy_folder, policy_step
from seqmatch.jobs.task_types import PolicyRef
from seqmatch.policy import Policy, action_space, load_policy, load_saved_policy
from storage import RunStore

MAX_LOADED = 3


@dataclass(frozen=True)
class SavedPolicy:
    """The newest policy of a run, loaded."""

    policy: Policy
    folder: Path
    key: Hashable
    """Another one where the folder was written anew."""
    step: int


class LoadedPolicies:
    """Loads policies, and forgets the one that was not used for longest."""

    def __init__(
        self,
        store: RunStore,
        max_loaded: int = MAX_LOADED,
        *,
        device: str = "auto",
        allowed: Sequence[str] = (),
    ) -> None:
        """Keeps nothing yet.

        Args:
            store: The runs, the prepared models, and the models that may be loaded.
            max_loaded: Policies kept at once.
            device: Where policies go.
            allowed: Folders and hub ids that may be loaded besides those that the store names.
        """
        self._store = store
        self._max_loaded = max_loaded
        self._device = device
        self._more_allowed = tuple(allowed)
        self._loaded: OrderedDict[Hashable, Policy] = OrderedDict()
        self._tokenizers: dict[str, tuple[Any, int]] = {}

    def get(self, ref: PolicyRef) -> Policy:
        """Returns a policy, ready to answer.

        Raises:
            ModelLoadError: It cannot be loaded, or the run has saved none yet.
            NotFoundError: There is no such run.
        """
        if ref.kind == "base":
            return self.base(ref.base_model or "")
        return self.of_run(ref.run_id or "").policy

    def of_run(self, run_id: str) -> SavedPolicy:
        """Returns the newest policy of a run.

        Raises:
            ModelLoadError: It cannot be loaded, or the run has saved none yet.
            NotFoundError: There is no such run.
        """
        run = self._store.runs.get(run_id)
        folder = policy_folder(self._store.run_dir(run.id), run)
        key = (str(folder), folder.stat().st_ino, folder.stat().st_mtime_ns)
        policy = self._kept(key, lambda: self._saved(folder))
        return SavedPolicy(policy, folder, key, policy_step(folder, run))

    @property
    def models_dir(self) -> Path:
        """Where prepared models are."""
        return self._store.data_dir / "models"

    @property
    def allowed(self) -> tuple[str, ...]:
        """The folders and hub ids that may be loaded now."""
        return (*allowed_models(self._store), *self._more_allowed)

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
                device=process_device(self._device),
                models_dir=self.models_dir,
                allowed=self.allowed,
            )

        return self._kept(("base", name), load)

    def tokenizer(self, name: str, backspace: bool) -> tuple[Any, ActionSpace]:
        """Returns the tokenizer of a base model and the actions on it; no weights are loaded.

        Raises:
            ModelLoadError: It is not known, not allowed, or not there.
        """
        allowed = self.allowed
        if name not in self._tokenizers or name not in (*BASE_MODELS, *allowed):
            folder = self.models_dir
            self._tokenizers[name] = (
                load_tokenizer(name, models_dir=folder, allowed=allowed),
                unembedding_rows(name, models_dir=folder, allowed=allowed),
            )
        tokenizer, num_rows = self._tokenizers[name]
        return tokenizer, action_space(tokenizer, num_rows, backspace)

    def _saved(self, folder: Path) -> Policy:
        return load_saved_policy(
            folder,
            device=process_device(self._device),
            models_dir=self.models_dir,
            allowed=self.allowed,
        )

    def _kept(self, key: Hashable, load: Callable[[], Policy]) -> Policy:
        if key not in self._loaded:
            while len(self._loaded) >= self._max_loaded:
                self._loaded.popitem(last=False)
            self._loaded[key] = load()
        self._loaded.move_to_end(key)
        return self._loaded[key]
