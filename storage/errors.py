"""The errors of the store: one root, and each kind is also the standard error that it is.

A message has three parts: what was found, where, and what is allowed. All classes are picklable (no
custom constructors), since they cross process borders.
"""


class StorageError(Exception):
    """Root of all errors of the store."""


class NotFoundError(StorageError, LookupError):
    """An id that the store does not know."""


class RunNotFoundError(NotFoundError):
    """No run has this id."""


class DatasetNotFoundError(NotFoundError):
    """No set of demonstrations has this id."""


class TaskNotFoundError(NotFoundError):
    """No task has this id."""


class ArtifactNotFoundError(NotFoundError):
    """No artefact has this id."""


class InvalidValueError(StorageError, ValueError):
    """An argument that the store cannot keep."""


class IllegalTransitionError(StorageError, RuntimeError):
    """A run or task stands where this may not happen to it."""


class DatasetInUseError(IllegalTransitionError):
    """A set of demonstrations that runs still refer to."""


class LeaseLostError(StorageError, RuntimeError):
    """A write of an attempt that does not own its run: it was superseded and must end."""


class ArtifactError(StorageError, RuntimeError):
    """A file that is not where, or not what, the store says."""


class StoreBusyError(StorageError, TimeoutError):
    """Another process held the write lock for longer than the busy timeout."""


class StoreFullError(StorageError, OSError):
    """The disk, or the database's size limit, is full; nothing of the transaction was written."""


class StoreCorruptedError(StorageError, RuntimeError):
    """The database file is damaged, or is not a store. It is left exactly as it was found."""


class SchemaVersionError(StorageError, RuntimeError):
    """The database was written by another version of this code that this one cannot read."""


class UnsupportedFileSystemError(StorageError, RuntimeError):
    """The data directory is where SQLite's locks do not work."""
