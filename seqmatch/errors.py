"""The errors of the method: one root, and each kind is also the standard error that it is.

A message has three parts: what was found, where, and what is allowed. All classes are picklable (no
custom constructors), since they cross process borders.
"""

from collections.abc import Iterable


class SeqMatchError(Exception):
    """Root of all errors that a user's input or files can cause."""


class ConfigError(SeqMatchError, ValueError):
    """A setting has a value that it may not have."""


class UnknownNameError(SeqMatchError, LookupError):
    """A name that no registry knows."""


class DemonstrationError(SeqMatchError, ValueError):
    """Demonstrations that cannot be read or cannot be trained on."""


class ModelLoadError(SeqMatchError, RuntimeError):
    """A base model, adapter or checkpoint that cannot be loaded."""


class CheckpointError(SeqMatchError, RuntimeError):
    """A checkpoint that is incomplete or does not fit its run."""


class DivergedError(SeqMatchError, ArithmeticError):
    """Training produced non-finite numbers."""


class PeerLostError(SeqMatchError, ConnectionError):
    """Another of the processes that train a run together is gone."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Returns the error for a `name` of this `kind` that is not among the `known` ones."""
    return UnknownNameError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
