"""The run store: the only channel between the web page and the workers. Knows no torch."""

from storage.run_store import RunStore

__all__ = ["RunStore"]
