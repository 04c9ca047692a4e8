"""The run store: one folder with a database and files, shared by the page and the workers."""

import time
from collections.abc import Callable
from pathlib import Path

from storage import schema
from storage.artifacts import Artifacts
from storage.datasets import Datasets
from storage.devices import Devices
from storage.engine import Database, open_engine
from storage.errors import RunNotFoundError
from storage.file_system import Presence, make_private_folder, refuse_network
from storage.ids import is_random_id
from storage.metrics import Metrics
from storage.notes import Notes
from storage.runs import Runs
from storage.settings import Settings
from storage.tasks import Tasks


class RunStore:
    """Everything that the web page and the workers know of each other.

    The contract:

    - **Threads and processes.** One store may be used by all threads of a process. Any number of
      processes on one machine may have the same folder open. A store is not carried over `fork`; a
      child opens its own. The folder is on a local disk.
    - **Transactions.** Each method is one transaction: it has happened or it has not. Writers take
      turns; one that waits longer than 10 s gets `StoreBusyError`. Readers never wait for writers.
    - **Read your writes.** What a method has written is seen by every later call of every process.
    - **Ownership.** `runs.claim` gives a run to one attempt. While the run is RUNNING only that
      attempt writes its progress, metrics and samples; every such write carries the attempt's
      number and raises `LeaseLostError` once another attempt, or none, owns the run. Its lease says
      until when it is taken to be alive; the runner decides what to do with one that ran out.
      Names, requests, deletion and events belong to everyone.
    - **Statuses** change only along `RunStatus.may_become`. A device slot is taken and freed in the
      transaction that starts and ends its run, so no slot has two runs and no finished run has a
      slot.
    - **Deaths.** Whatever a method has returned from survives the death of every process. The
      start, the requests, the end of a run, its artefacts and its demonstrations also survive a
      power cut; of the rest a power cut may take the last moments, never damage what is older.
    - **Records** are frozen values without a tie to the store. Ids are opaque.
    - **Files.** An artefact's row is written when its file is complete, and has its size and
      SHA-256.
    - **Errors** are those of `storage.errors`. A damaged or newer database is refused, and left
      alone.
    """

    def __init__(self, data_dir: Path, database: Database, presence: Presence) -> None:
        self.data_dir = data_dir
        self._database = database
        self._presence = presence
        self.datasets = Datasets(database, data_dir / "demonstrations")
        self.runs = Runs(database, self.run_dir)
        self.devices = Devices(database)
        self.metrics = Metrics(database)
        self.notes = Notes(database)
        self.artifacts = Artifacts(database, self.run_dir)
        self.tasks = Tasks(database)
        self.settings = Settings(database)

    @classmethod
    def open(cls, data_dir: Path, *, clock: Callable[[], float] = time.time) -> "RunStore":
        """Opens the store in a folder, making both where there is none; upgrades an older one.

        Args:
            data_dir: The folder; made private to its owner when the store is made.
            clock: Gives the time in UTC seconds since the epoch.

        Raises:
            UnsupportedFileSystemError: The folder is on a network file system.
            StoreCorruptedError: There is a damaged database, or one that is not ours.
            SchemaVersionError: The database is newer than this code.
        """
        folder = data_dir.absolute()
        make_private_folder(folder)
        refuse_network(folder)
        presence = Presence(folder / "store.open")
        try:
            schema.prepare(folder, presence)
            database = Database(open_engine(folder / schema.DATABASE_NAME), clock)
        except BaseException:
            presence.close()
            raise
        return cls(folder, database, presence)

    def run_dir(self, run_id: str) -> Path:
        """Returns the folder of a run's files.

        Raises:
            RunNotFoundError: This can be no run's id; so no path from outside gets through.
        """
        if not is_random_id(run_id):
            raise RunNotFoundError(f"{run_id[:80]!r} is no run's id; ids are 16 letters and digits")
        return self.data_dir / "runs" / run_id

    def close(self) -> None:
        """Closes the connections. May be called twice; the store may not be used after."""
        self._database.close()
        self._presence.close()
