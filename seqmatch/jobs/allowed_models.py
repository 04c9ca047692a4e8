"""The base models that the operator allows besides the built-in ones: one list, in the store.

Trainers and the lane read it there, so that it reaches them whoever started them.
"""

from collections.abc import Sequence
from pathlib import Path

from storage import RunStore

_KEY = "allowed_models"


def model_location(name: str) -> str:
    """Returns a folder as an absolute path, since jobs work elsewhere; a hub id as it is."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def allowed_models(store: RunStore) -> tuple[str, ...]:
    """Returns the folders and hub ids that may be loaded."""
    return tuple(store.settings.get(_KEY, []))


def set_allowed_models(store: RunStore, names: Sequence[str]) -> None:
    """Makes these, and no others, the allowed folders and hub ids."""
    store.settings.set(_KEY, list(dict.fromkeys(map(model_location, names))))


def allow_models(store: RunStore, names: Sequence[str]) -> None:
    """Adds folders and hub ids to those that are allowed."""
    if names:
        set_allowed_models(store, [*allowed_models(store), *names])
