"""`data`: check files of demonstrations, import them into the store, or list what is there."""

import argparse

from seqmatch.examples import EXAMPLES
from seqmatch.ingest import discard, inspect_upload
from seqmatch.jobs.commands.demonstration_sets import (
    existing_files,
    import_files,
    print_problems,
    resolve_dataset,
)
from seqmatch.jobs.commands.store_access import add_data_dir, opened_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="print every problem; 1 where a row cannot be used")
    check.add_argument("files", nargs="+", metavar="FILE")
    importing = actions.add_parser("import", help="freeze the usable rows into the store")
    importing.add_argument("files", nargs="+", metavar="FILE", help="files, or one example's name")
    importing.add_argument("--name", default="", help="how the set is called. Default: the files.")
    importing.add_argument(
        "--accept", action="store_true", help="leave out the rows that cannot be used"
    )
    listing = actions.add_parser("list", help="list the stored sets and the bundled examples")
    add_data_dir(parser, (check, importing, listing))


def run(arguments: argparse.Namespace) -> int:
    """Does what was asked."""
    if arguments.action == "check":
        return _check(arguments)
    if arguments.action == "import":
        return _import(arguments)
    return _list(arguments)


def _check(arguments: argparse.Namespace) -> int:
    report = inspect_upload(existing_files(arguments.files))
    discard(report)
    print_problems(report)
    print(
        f"{report.num_usable} of {report.num_rows_read} rows can be used, "
        f"{report.num_demonstrations} demonstrations"
    )
    return 0 if report.num_usable and not report.num_refused else 1


def _import(arguments: argparse.Namespace) -> int:
    with opened_store(arguments) as store:
        if len(arguments.files) == 1 and arguments.files[0] in EXAMPLES:
            record = resolve_dataset(store, arguments.files)
        else:
            paths = existing_files(arguments.files)
            record = import_files(
                store, paths, accept_refused=arguments.accept, name=arguments.name
            )
        print(f"{record.id}  {record.num_rows} demonstrations  {record.name}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with opened_store(arguments) as store:
        for record in store.datasets.list():
            print(f"{record.id[:12]}  {record.num_rows:>8} demonstrations  {record.name}")
    for name, example in EXAMPLES.items():
        print(f"{name:12}  example: {example.title}")
    return 0
