"""How a command opens the store and finds what its arguments name."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.errors import SeqMatchError
from storage import RunStore
from storage.errors import StorageError
from storage.records import DatasetRecord, RunRecord

_SHOWN = 5


class CommandError(SeqMatchError, ValueError):
    """An argument names nothing, or more than one thing, or something that cannot be used."""


def add_data_dir(
    parser: argparse.ArgumentParser, actions: Sequence[argparse.ArgumentParser] = ()
) -> None:
    """Adds --data-dir to a command, and to its actions, so that it may stand before or after."""
    for each in (parser, *actions):
        each.add_argument(
            "--data-dir",
            type=Path,
            # An action that does not get it leaves what the command got.
            default=DEFAULT_DATA_DIR if each is parser else argparse.SUPPRESS,
            metavar="FOLDER",
            help="the data directory that the application uses too. Default: seqmatch-data.",
        )


def add_allowed_models(parser: argparse.ArgumentParser) -> None:
    """Adds --allow-model."""
    parser.add_argument(
        "--allow-model",
        action="append",
        default=[],
        metavar="NAME",
        help="a folder or hub id that may be loaded besides the built-in models; repeatable",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device."""
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1"
    )


@contextmanager
def opened_store(arguments: argparse.Namespace) -> Iterator[RunStore]:
    """Yields the store of --data-dir; an error of the store becomes one of the command line."""
    try:
        store = RunStore.open(arguments.data_dir)
        try:
            yield store
        finally:
            store.close()
    except StorageError as error:
        raise CommandError(str(error)) from error


def find_run(store: RunStore, text: str) -> RunRecord:
    """Returns the run whose id starts with `text`, or whose name it is.

    Raises:
        CommandError: There is none, or more than one.
    """
    runs = store.runs.list()
    found = [run for run in runs if run.id == text]
    found = found or [run for run in runs if run.name == text]
    found = found or [run for run in runs if run.id.startswith(text)]
    names = [f"{run.id} ({run.name})" for run in (found or runs)]
    _exactly_one("run", text, len(found), names)
    return found[0]


def find_dataset(store: RunStore, text: str) -> DatasetRecord | None:
    """Returns the stored set whose id starts with `text`, or whose name it is; None for none.

    Raises:
        CommandError: There is more than one.
    """
    datasets = store.datasets.list()
    found = [dataset for dataset in datasets if dataset.name == text]
    is_prefix = len(text) >= 6
    found = found or [each for each in datasets if is_prefix and each.id.startswith(text)]
    if not found:
        return None
    names = [f"{dataset.id[:12]} ({dataset.name})" for dataset in found]
    _exactly_one("set of demonstrations", text, len(found), names)
    return found[0]


def _exactly_one(kind: str, text: str, count: int, names: Sequence[str]) -> None:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    if count == 0:
        raise CommandError(f"no {kind} has the id or name {text!r}; there is {shown or 'none yet'}")
    if count > 1:
        raise CommandError(f"{count} of kind {kind} match {text!r}: {shown}; give more of the id")
