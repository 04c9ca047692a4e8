"""The arguments of `oracle`. Light."""

import argparse
import re
from pathlib import Path
from typing import get_args

from seqmatch.exact.choices import DEFAULT_OBJECTIVES
from seqmatch.exact.languages import PolicyKind
from seqmatch.exact.results import OracleRequest

_DEFAULTS = OracleRequest()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--list", action="store_true", help="list languages and objectives")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--language",
        default=_DEFAULTS.language,
        metavar="NAME",
        help="a built-in language (--list). Default: %(default)s.",
    )
    which.add_argument(
        "--table", type=Path, metavar="FILE", help="one answer and its probability a line instead"
    )
    parser.add_argument(
        "--objectives",
        type=_names,
        default=list(DEFAULT_OBJECTIVES),
        metavar="A,B",
        help=f"what to train on (--list). Default: {','.join(DEFAULT_OBJECTIVES)}.",
    )
    parser.add_argument(
        "--seeds",
        type=_seeds,
        default=_DEFAULTS.seeds,
        metavar="LIST",
        help="random starts: 0-4, or 0,2,7. Default: 0-4.",
    )
    parser.add_argument(
        "--alpha",
        type=_numbers,
        default=[_DEFAULTS.alpha],
        metavar="A,B",
        help="entropy weights of SequenceMatch; each trains its objectives again. Default: "
        f"{_DEFAULTS.alpha}.",
    )
    parser.add_argument(
        "--divergence-order",
        type=float,
        default=_DEFAULTS.divergence_order,
        metavar="A",
        help="order of the alpha divergence, -1 to 2. Default: %(default)s.",
    )
    parser.add_argument(
        "--level",
        choices=("answers", "occupancy"),
        default=_DEFAULTS.level,
        help="measure between laws of whole answers or occupancy measures. Default: %(default)s.",
    )
    parser.add_argument(
        "--backspace",
        choices=("language", "with", "without"),
        default="language",
        help="whether the policy can take back tokens. Default: as the language has it.",
    )
    parser.add_argument(
        "--policy",
        choices=get_args(PolicyKind),
        help="what the model can represent. Default: as the language has it.",
    )
    parser.add_argument(
        "--simulate",
        type=int,
        default=0,
        metavar="N",
        help="also decode each policy N times and count, beside the exact probabilities",
    )
    parser.add_argument("--runs", action="store_true", help="print every seed, too")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every number to a file")


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} is empty; at least one is needed")
    return names


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in _names(text):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"{part!r} is neither a number nor a range as 0-4")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 1000:
            raise argparse.ArgumentTypeError(f"{part!r} is no range of at most 1000 seeds")
        seeds.extend(range(first, last + 1))
    return seeds


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in _names(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
