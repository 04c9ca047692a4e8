"""The policies and tokenizers that the lane keeps loaded, by where their weights are."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from seqmatch.action_space import ActionSpace
from seqmatch.base_model_loading import load_tokenizer, unembedding_rows
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import AdapterConfig
from seqmatch.jobs.allowed_models import allowed_models
from seqmatch.jobs.policy_folders import policy_folder
from seqmatch.jobs.task_types import PolicyRef
from seqmatch.policy import Policy, action_space, load_policy, load_saved_policy
from seqmatch.run_start import torch_device
from storage import RunStore

MAX_LOADED = 3


class LoadedPolicies:
    """Loads policies, and forgets the one that was not used for longest."""

    def __init__(self, store: RunStore, max_loaded: int = MAX_LOADED) -> None:
        self._store = store
        self._max_loaded = max_loaded
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
                allowed=allowed_models(self._store),
            )

        return self._kept(("base", name), load)

    def tokenizer(self, name: str, backspace: bool) -> tuple[Any, ActionSpace]:
        """Returns the tokenizer of a base model and the actions on it; no weights are loaded.

        Raises:
            ModelLoadError: It is not known, not allowed, or not there.
        """
        allowed = allowed_models(self._store)
        if name not in self._tokenizers or name not in (*BASE_MODELS, *allowed):
            folder = self._store.data_dir / "models"
            self._tokenizers[name] = (
                load_tokenizer(name, models_dir=folder, allowed=allowed),
                unembedding_rows(name, models_dir=folder, allowed=allowed),
            )
        tokenizer, num_rows = self._tokenizers[name]
        return tokenizer, action_space(tokenizer, num_rows, backspace)

    def _saved(self, folder: Path) -> Policy:
        return load_saved_policy(
            folder,
            device=torch_device("auto"),
            models_dir=self._store.data_dir / "models",
            allowed=allowed_models(self._store),
        )

    def _kept(self, key: Hashable, load: Callable[[], Policy]) -> Policy:
        if key not in self._loaded:
            while len(self._loaded) >= self._max_loaded:
                self._loaded.popitem(last=False)
            self._loaded[key] = load()
        self._loaded.move_to_end(key)
        return self._loaded[key]
