"""The arguments of `evaluate`. Light."""

import argparse
from pathlib import Path

from seqmatch.jobs.commands.store_access import add_allowed_models, add_data_dir, add_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_data_dir(parser)
    parser.add_argument("run", nargs="+", metavar="RUN", help="a run: its id or its name")
    parser.add_argument(
        "--num-prompts", type=int, metavar="N", help="held-out prompts; all where it is left out"
    )
    parser.add_argument(
        "--sampling-seed", type=int, default=0, metavar="SEED", help="of the random numbers"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers as JSON")
    add_allowed_models(parser)
    add_device(parser)
