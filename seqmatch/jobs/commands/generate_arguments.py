"""The arguments of `generate`. Light."""

import argparse

from seqmatch.config_flags import add_config_flags
from seqmatch.decoding.config import DecodingConfig
from seqmatch.jobs.commands.store_access import add_allowed_models, add_data_dir, add_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_data_dir(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", metavar="RUN", help="a run: its id, the start of it, or its name")
    which.add_argument("--base-model", metavar="NAME", help="a base model, nothing trained")
    parser.add_argument(
        "--prompt", action="append", required=True, metavar="TEXT", help="a prompt; repeatable"
    )
    parser.add_argument(
        "--backspace",
        choices=("both", "with", "without"),
        default="both",
        help="decode with the backspace action, without it, or both. Default: %(default)s.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object for each answer")
    add_allowed_models(parser)
    add_device(parser)
    add_config_flags(parser, DecodingConfig)
