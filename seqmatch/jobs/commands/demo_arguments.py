"""The arguments of `demo`. Light."""

import argparse
from pathlib import Path

from seqmatch.jobs.commands.store_access import add_allowed_models, add_data_dir, add_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_data_dir(parser)
    parser.add_argument(
        "--seeds", type=_count, default=3, metavar="N", help="runs of each objective. Default: 3."
    )
    parser.add_argument(
        "--steps",
        "--num-steps",
        dest="num_steps",
        type=_count,
        metavar="STEPS",
        help="a shorter demo: so many steps a run, instead of the example's own",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="write the results too: .json all numbers, anything else the table as Markdown",
    )
    add_allowed_models(parser)
    add_device(parser)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is below 1")
    return count
