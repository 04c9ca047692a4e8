"""How many runs a device trains at once: a setting of the store, which the runner follows."""

from seqmatch.errors import ConfigError
from storage import RunStore

KEY = "concurrency"
MAX_AT_ONCE = 64


def runs_at_once(store: RunStore) -> int:
    """Returns how many runs a device trains at once; 1 where nobody said otherwise."""
    return int(store.settings.get(KEY, 1))


def set_runs_at_once(store: RunStore, count: int | None) -> int:
    """Sets how many runs a device trains at once; runs that train already go on.

    Raises:
        ConfigError: it is not 1 to 64.
    """
    if count is None or not 1 <= count <= MAX_AT_ONCE:
        found = "no number of" if count is None else count
        raise ConfigError(f"{found} runs at once; 1 to {MAX_AT_ONCE} are allowed")
    store.settings.set(KEY, count)
    return count
