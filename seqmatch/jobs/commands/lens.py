"""`lens`: how far a run's answers are from its demonstrations, or h at every token of answers."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ValidationError

from seqmatch.commands.written_tables import Row, check_can_be_written, print_table, write_csv
from seqmatch.config_flags import validation_message
from seqmatch.jobs.allowed_models import model_location
from seqmatch.jobs.commands.store_access import CommandError, find_run, opened_store
from seqmatch.jobs.lens_types import Between, LensPiece, LensRequest, Measured, ScoredAnswer
from seqmatch.jobs.lens_words import in_words, judged_by, reading
from seqmatch.jobs.lens_work import Lens
from seqmatch.jobs.loaded_policies import LoadedPolicies

_LINE_SECONDS = 5.0


def run(arguments: argparse.Namespace) -> int:
    """Looks, prints tables and writes the file."""
    if arguments.csv is not None:
        check_can_be_written(arguments.csv)
    if arguments.answer and arguments.prompt is None:
        raise CommandError("--answer needs the --prompt that it answers")
    pieces: list[LensPiece] = []
    show = _Progress()

    def write(piece: BaseModel) -> bool:
        assert isinstance(piece, LensPiece)
        pieces.append(piece)
        show(piece)
        return True

    with opened_store(arguments) as store:
        request = _request(arguments, find_run(store, arguments.run).id)
        allowed = tuple(map(model_location, arguments.allow_model))
        policies = LoadedPolicies(store, device=arguments.device, allowed=allowed)
        Lens(store, policies).work(request, write)
    _print(pieces)
    if arguments.csv is not None:
        write_csv(arguments.csv, records(pieces))
        print(f"written to {arguments.csv}", file=sys.stderr)
    return 0


def _request(arguments: argparse.Namespace, run_id: str) -> LensRequest:
    is_score = arguments.prompt is not None
    try:
        return LensRequest(
            run_id=run_id,
            work="score" if is_score else "measure",
            num_answers=arguments.num_answers,
            prompt=arguments.prompt or "",
            answers=arguments.answer,
            num_samples=arguments.num_samples,
            seed=arguments.sampling_seed,
        )
    except ValidationError as error:
        raise CommandError(validation_message(error)) from error


def records(pieces: Sequence[LensPiece]) -> Iterator[Row]:
    """Yields the header and one row for each number, unrounded."""
    if any(piece.measured for piece in pieces):
        yield "quantity", "name", "value", "low", "high"
    else:
        yield "answer", "position", "token", "text", "h", "increment"
    scored = [piece.scored for piece in pieces if piece.scored is not None]
    for number, answer in enumerate(scored, 1):
        for at, token in enumerate(answer.tokens, 1):
            yield number, at, token.id, token.text, token.h, token.increment
    for piece in pieces:
        if piece.measured is not None:
            yield from _numbers(piece.measured)


def _numbers(measured: Measured) -> Iterator[Row]:
    for name in ("auc", "leak_auc"):
        between: Between = getattr(measured, name)
        yield name, "", between.value, between.low, between.high
    for name in ("entropy", "score_data", "score_rollouts", "calibration_error"):
        yield name, "", getattr(measured, name), None, None
    for row in measured.estimates:
        yield "bound", row.name, row.bound.value, row.bound.low, row.bound.high
        yield "plug_in", row.name, row.plug_in, None, None
    for at in measured.calibration:
        yield "calibration", f"{at.count} answers", at.share_data, at.mean_probability, None


def _print(pieces: Sequence[LensPiece]) -> None:
    number = 0
    for piece in pieces:
        if piece.measured is not None:
            _print_measured(piece.measured)
        if piece.judge is not None:
            print(f"{judged_by(piece.judge)}\n")
        if piece.scored is not None:
            number += 1
            _print_scored(number, piece.scored)


def _print_measured(measured: Measured) -> None:
    backspace = "with backspace" if measured.backspace else "without backspace"
    print(
        f"{measured.num_answers} answers of the policy of step {measured.step:,}, {backspace}, "
        "against the demonstrations of the same held-out prompts.\n"
    )
    print(f"{reading(measured)}\n")
    print_table(
        ["quantity", "value", "95 % interval"],
        [
            ["AUC of the probe", *_interval(measured.auc)],
            ["AUC of length and white space", *_interval(measured.leak_auc)],
            ["mean h of demonstrations, nats", f"{measured.score_data:.3f}", ""],
            ["mean h of answers, nats", f"{measured.score_rollouts:.3f}", ""],
            ["mean entropy, nats", f"{measured.entropy:.3f}", ""],
            ["calibration error", f"{measured.calibration_error:.3f}", ""],
        ],
    )
    print_table(
        ["divergence", "lower bound", "95 % interval", "plug-in"],
        [[row.title, *_interval(row.bound), f"{row.plug_in:.3f}"] for row in measured.estimates],
    )
    print(f"Lower bound: {measured.bound_kind}. Plug-in: {measured.plug_in_kind}.\n")
    print_table(
        ["mean sigma(h)", "share of demonstrations", "answers"],
        [
            [f"{row.mean_probability:.3f}", f"{row.share_data:.3f}", str(row.count)]
            for row in measured.calibration
        ],
    )


def _interval(between: Between) -> tuple[str, str]:
    return f"{between.value:.3f}", f"{between.low:.3f} to {between.high:.3f}"


def _print_scored(number: int, answer: ScoredAnswer) -> None:
    whose = "sampled" if answer.is_sampled else "given"
    ending = "" if answer.is_finished else ", not finished"
    deletions = f", after {answer.num_deletions} deletions" if answer.num_deletions else ""
    last = answer.tokens[-1].h if answer.tokens else 0.0
    print(
        f"Answer {number} ({whose}{ending}{deletions}): h {last:+.3f}, that is {in_words(last)}.\n"
    )
    print_table(
        ["token", "h", "increment"],
        # As Python writes it: the text of a model may hold what a terminal would act on.
        [[repr(each.text), f"{each.h:+.3f}", f"{each.increment:+.3f}"] for each in answer.tokens],
    )


class _Progress:
    """Rewrites one line on a terminal; elsewhere writes a line every few seconds."""

    def __init__(self) -> None:
        self._told_at = float("-inf")
        self._told = ""

    def __call__(self, piece: LensPiece) -> None:
        if not piece.text:
            return
        line = f"{piece.text}: {piece.done} of {piece.total}" if piece.total else piece.text
        is_new = piece.text != self._told
        if sys.stderr.isatty():
            start = "\n" if is_new and self._told else "\r"
            print(f"{start}{line}", end="", file=sys.stderr, flush=True)
        elif is_new or time.monotonic() - self._told_at >= _LINE_SECONDS:
            self._told_at = time.monotonic()
            print(line, file=sys.stderr, flush=True)
        self._told = piece.text
