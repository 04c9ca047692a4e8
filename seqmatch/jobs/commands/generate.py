"""`generate`: answers of a run or a base model, with backspace and without, on the same numbers."""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from pydantic import ValidationError

from seqmatch.config_flags import settings_given, validation_message
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import UniformSource, generate, to_trace
from seqmatch.jobs.commands.policies import base_policy, run_policy
from seqmatch.jobs.commands.store_access import CommandError, find_run, opened_store
from seqmatch.policy import Policy
from seqmatch.reporting import Trace
from seqmatch.text import render_prompt


def run(arguments: argparse.Namespace) -> int:
    """Prints the answers."""
    try:
        decoding = DecodingConfig.model_validate(settings_given(arguments, DecodingConfig))
    except ValidationError as error:
        raise CommandError(validation_message(error)) from error
    with opened_store(arguments) as store:
        if arguments.run is not None:
            policy = run_policy(store, find_run(store, arguments.run), arguments)
        else:
            policy = base_policy(store, arguments.base_model, arguments)
        for backspace, trace in _answers(policy, decoding, arguments):
            if arguments.json:
                print(json.dumps({"backspace": backspace, **asdict(trace)}))
            else:
                _print(backspace, trace)
    return 0


def _answers(
    policy: Policy, decoding: DecodingConfig, arguments: argparse.Namespace
) -> Iterator[tuple[bool, Trace]]:
    modes = {"both": (True, False), "with": (True,), "without": (False,)}[arguments.backspace]
    if not policy.space.has_backspace:
        if arguments.backspace == "with":
            raise CommandError("this policy has no backspace action; ask for --backspace without")
        modes = (False,)
    prompts = [render_prompt(policy.tokenizer, text) for text in arguments.prompt]
    for backspace in modes:
        rollouts = generate(
            policy, prompts, decoding, backspace=backspace, uniforms=UniformSource(decoding.seed)
        )
        for rollout, text in zip(rollouts, arguments.prompt, strict=True):
            yield backspace, to_trace(policy, rollout, text)


def _print(backspace: bool, trace: Trace) -> None:
    how = "with backspace" if backspace else "without backspace"
    counts = f"{len(trace.actions)} actions, {trace.num_backspaces} deletions"
    ending = "" if trace.is_finished else ", not finished"
    print(f"--- {trace.prompt}\n[{how}: {counts}{ending}]\n{trace.text}")
    if trace.num_backspaces:
        print(f"[typed] {''.join(piece or '⌫' for piece in trace.pieces)}")
