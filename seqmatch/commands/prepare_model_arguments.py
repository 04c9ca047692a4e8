"""The arguments of `prepare-model`. Light."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path("seqmatch-data"),
        metavar="FOLDER",
        help="the data directory; the model goes to its models/. Default: %(default)s.",
    )
