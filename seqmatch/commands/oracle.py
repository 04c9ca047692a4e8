"""`oracle`: trains small policies to the optimum of objectives and prints exact divergences."""

import argparse
import sys
import time
from collections.abc import Callable

from pydantic import ValidationError

from seqmatch.commands.oracle_tables import Trained, print_listing, print_results, records
from seqmatch.commands.written_tables import check_can_be_written, write_csv
from seqmatch.errors import ConfigError
from seqmatch.exact.choices import get_oracle_objective
from seqmatch.exact.experiment import run_experiment
from seqmatch.exact.languages import TABLE
from seqmatch.exact.results import OraclePiece, OracleRequest

_LINE_SECONDS = 5.0


def run(arguments: argparse.Namespace) -> int:
    """Trains, prints tables and writes the file; 1 where an objective could not be trained."""
    if arguments.list:
        print_listing()
        return 0
    if arguments.csv is not None:
        check_can_be_written(arguments.csv)
    language = None
    trained: list[Trained] = []
    notes: list[str] = []
    for request in _requests(arguments):
        about = f"alpha {request.alpha:g}, " if len(arguments.alpha) > 1 else ""
        pieces = _experiment(request, about)
        language = pieces[0].language
        trained += [Trained(request.alpha, piece.run) for piece in pieces if piece.run is not None]
        notes += [piece.text for piece in pieces if piece.kind == "note"]
    assert language is not None
    print_results(language, trained, list(dict.fromkeys(notes)), every_run=arguments.runs)
    if arguments.csv is not None:
        write_csv(arguments.csv, records(language, trained))
    return 0 if trained else 1


def _requests(arguments: argparse.Namespace) -> list[OracleRequest]:
    """One experiment for each alpha; what does not depend on alpha is trained in the first."""
    alphas = arguments.alpha
    first = _request(arguments, arguments.objectives, alphas[0])
    again = [key for key in first.objectives if get_oracle_objective(key).uses_alpha]
    return [first, *(_request(arguments, again, alpha) for alpha in alphas[1:] if again)]


def _request(arguments: argparse.Namespace, keys: list[str], alpha: float) -> OracleRequest:
    backspace = {"language": None, "with": True, "without": False}[arguments.backspace]
    try:
        table = arguments.table.read_text(encoding="utf-8") if arguments.table else ""
        return OracleRequest(
            language=TABLE if arguments.table else arguments.language,
            table=table,
            objectives=keys,
            seeds=arguments.seeds,
            alpha=alpha,
            level=arguments.level,
            backspace=backspace,
            policy=arguments.policy,
            divergence_order=arguments.divergence_order,
            num_simulated=arguments.simulate,
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--table {arguments.table}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}: {what}") from error


def _experiment(request: OracleRequest, about: str) -> list[OraclePiece]:
    """Runs one experiment; `about` stands before each line of its progress."""
    pieces: list[OraclePiece] = []
    show = _progress(about)

    def tell(piece: OraclePiece) -> bool:
        if piece.kind == "progress":
            show(piece)
        else:
            pieces.append(piece)
        return True

    run_experiment(request, tell)
    return pieces


def _progress(about: str) -> Callable[[OraclePiece], None]:
    """Rewrites one line on a terminal; elsewhere writes a line every few seconds."""
    is_terminal = sys.stderr.isatty()
    told_at = -_LINE_SECONDS

    def show(piece: OraclePiece) -> None:
        nonlocal told_at
        is_last = piece.done == piece.total
        line = f"{about}{piece.done} of {piece.total}: {piece.text}"
        if is_terminal:
            end = "\n" if is_last else ""
            print(f"\r{line[:78]:78}", end=end, file=sys.stderr, flush=True)
        elif is_last or time.monotonic() - told_at >= _LINE_SECONDS:
            told_at = time.monotonic()
            print(line, file=sys.stderr, flush=True)

    return show
