"""The arguments of `lens`. Light."""

import argparse
from pathlib import Path

from seqmatch.jobs.commands.store_access import add_allowed_models, add_data_dir, add_device
from seqmatch.jobs.lens_types import MAX_ANSWERS, MAX_SAMPLES, MIN_ANSWERS, LensRequest

_FIELDS = LensRequest.model_fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add_data_dir(parser)
    parser.add_argument(
        "--run", required=True, metavar="RUN", help="a run: its id, the start of it, or its name"
    )
    parser.add_argument(
        "--num-answers",
        type=int,
        default=_FIELDS["num_answers"].default,
        metavar="N",
        help=f"fresh answers to held-out prompts, {MIN_ANSWERS} to {MAX_ANSWERS:,}. "
        "Default: %(default)s.",
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="show h at every token of answers to this prompt instead"
    )
    parser.add_argument(
        "--answer",
        action="append",
        default=[],
        metavar="TEXT",
        help="an answer to the prompt; repeatable. Without it the run answers by itself.",
    )
    parser.add_argument(
        "--num-samples",
        type=int,
        default=_FIELDS["num_samples"].default,
        metavar="N",
        help=f"how many answers the run gives, up to {MAX_SAMPLES}. Default: %(default)s.",
    )
    parser.add_argument(
        "--sampling-seed", type=int, default=0, metavar="SEED", help="of the random numbers"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every number to a file")
    add_allowed_models(parser)
    add_device(parser)
