"""`export`: copy the adapter zip of a finished run to a file."""

import argparse
import shutil
from pathlib import Path

from seqmatch.jobs.commands.store_access import CommandError, add_data_dir, find_run, opened_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_data_dir(parser)
    parser.add_argument("run", metavar="RUN", help="the run's id, the start of it, or its name")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="where to; an existing file is not overwritten. Default: the zip's own name, here.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copies the newest zip, verified against its hash, and prints where it is."""
    with opened_store(arguments) as store:
        found = find_run(store, arguments.run)
        zips = [each for each in store.artifacts.list(found.id) if each.kind == "adapter_zip"]
        if not zips:
            raise CommandError(
                f"run {found.id} ({found.status.value}) has no export; a run has one when it "
                "completes or is stopped with saving"
            )
        newest = max(zips, key=lambda each: each.created_at)
        output: Path = arguments.output or Path(newest.filename)
        if output.exists():
            raise CommandError(f"{output} exists; choose another --output")
        if not output.parent.is_dir():
            raise CommandError(f"--output {output}: there is no folder {output.parent}")
        shutil.copyfile(store.artifacts.verify(newest.id), output)
        print(output)
        return 0
