"""The task "lens": how far a run's answers are from its demonstrations, and h at every token.

The measure is always by probes on frozen features, so that runs share their axes. The heat map is
of the run's own discriminator where one was saved beside its policy, else of a probe that is fitted
here, once for each policy, to training prompts: the held-out ones stay unseen for the measure.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from pydantic import ValidationError

from seqmatch.batches import held_out_rows, training_rows
from seqmatch.config import RunConfig
from seqmatch.decoding.generation import Rollout
from seqmatch.discriminators import Discriminator
from seqmatch.discriminators.files import load_discriminator
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.evaluation import cut_demonstrations, sample_to
from seqmatch.ingest import read_frozen
from seqmatch.jobs.answering import Stopped, Write
from seqmatch.jobs.lens_reports import measured_of, scored_of
from seqmatch.jobs.lens_types import Judge, LensPiece, LensRequest
from seqmatch.jobs.loaded_policies import LoadedPolicies, SavedPolicy
from seqmatch.lens import (
    Answer,
    Eyes,
    TokenScores,
    answer_of_rollout,
    is_measurable,
    measure,
    probe_for,
    token_scores,
)
from seqmatch.policy import Policy
from seqmatch.run_batches import PASSES_WITHOUT_GRADIENT
from seqmatch.run_start import pass_positions
from seqmatch.seeding import child_seed
from seqmatch.text import answer_text, render_prompt, tokenize_demonstration
from seqmatch.types import Demonstration, Trajectory
from storage import RunStore

NUM_FITTED = 128
"""Training prompts that a probe is fitted to."""
MAX_PROBES = 8
"""Probes are small heads; their features are computed anew."""
PROBE_SEED = 0
STREAM_SECONDS = 0.3
Scorer = Callable[[Answer], TokenScores]


class Lens:
    """Works on requests, and keeps the probes that it has fitted."""

    def __init__(self, store: RunStore, policies: LoadedPolicies) -> None:
        self._store = store
        self._policies = policies
        self._probes: OrderedDict[Hashable, tuple[Discriminator, Judge]] = OrderedDict()

    def work(self, request: LensRequest, write: Write) -> None:
        """Works on a request to its end.

        Raises:
            SeqMatchError: The run has no policy yet, or what is asked cannot be looked at.
            NotFoundError: There is no such run.
            Stopped: It was asked to stop.
        """
        stream = _Stream(write)
        stream.tell("Loading the run's policy")
        saved = self._policies.of_run(request.run_id)
        (self._measure if request.work == "measure" else self._score)(request, saved, stream)

    def _measure(self, request: LensRequest, saved: SavedPolicy, stream: "_Stream") -> None:
        config, rows = self._of_run(request.run_id)
        policy, limit = saved.policy, config.evaluation.max_new_tokens
        held_out = held_out_rows(config, rows, policy).first(request.num_answers)
        demonstrations, folds = cut_demonstrations(policy, held_out, limit), held_out.folds()
        if not is_measurable(demonstrations, folds):
            raise DemonstrationError(
                f"this run holds out {len(set(folds))} usable prompts; the lens needs at least 2 "
                "in each half of them: hold out more rows (data.heldout_fraction), or bring more"
            )
        prompts = [each.prompt_ids for each in demonstrations]
        seed = child_seed(request.seed, "lens answers")
        answers = _sampled(policy, prompts, limit, seed, "Writing answers", stream)
        stream.tell("Fitting probes on either half of the prompts")
        report = measure(
            self._eyes(policy),
            demonstrations,
            answers,
            folds,
            seed=child_seed(request.seed, "lens probes"),
            max_positions=_positions(policy),
        )
        measured = measured_of(report, saved.step, limit, backspace=policy.space.has_backspace)
        stream.write(LensPiece(measured=measured))

    def _score(self, request: LensRequest, saved: SavedPolicy, stream: "_Stream") -> None:
        config, rows = self._of_run(request.run_id)
        policy, limit = saved.policy, config.evaluation.max_new_tokens
        prompt = render_prompt(policy.tokenizer, request.prompt)
        answers = [_pasted(policy, request.prompt, text) for text in request.answers]
        rollouts: Sequence[Rollout | None] = [None] * len(answers)
        if not answers:
            prompts = [prompt] * request.num_samples
            rollouts = _rollouts(policy, prompts, limit, request.seed, "Writing", stream)
            answers = [_standing(policy, each) for each in rollouts if each is not None]
        score, judge = self._scorer(config, rows, saved, stream)
        stream.write(LensPiece(judge=judge))
        for answer, rollout in zip(answers, rollouts, strict=True):
            stream.write(LensPiece(scored=scored_of(policy, answer, rollout, score(answer))))

    def _scorer(
        self,
        config: RunConfig,
        rows: Sequence[Demonstration],
        saved: SavedPolicy,
        stream: "_Stream",
    ) -> tuple[Scorer, Judge]:
        """The run's own discriminator, or a probe."""
        policy, positions = saved.policy, _positions(saved.policy)
        own = load_discriminator(saved.folder, policy)
        if own is not None:
            limit = config.evaluation.max_new_tokens
            judge = Judge(kind="discriminator", step=saved.step, max_new_tokens=limit)

            def by_discriminator(answer: Answer) -> TokenScores:
                tokens = answer.token_ids
                row = Trajectory(answer.prompt_ids, labels=tokens, pushes=tokens)
                h = own.scores(policy, [row], positions)[0].double().cpu().numpy()
                return TokenScores(h, np.diff(h, prepend=0.0))

            return by_discriminator, judge
        eyes = self._eyes(policy)
        if saved.key not in self._probes:
            while len(self._probes) >= MAX_PROBES:
                self._probes.popitem(last=False)
            self._probes[saved.key] = _fitted(config, rows, saved, eyes, stream)
        self._probes.move_to_end(saved.key)
        probe, judge = self._probes[saved.key]
        return lambda answer: token_scores(probe, eyes.features([answer], positions)), judge

    def _of_run(self, run_id: str) -> tuple[RunConfig, list[Demonstration]]:
        run = self._store.runs.get(run_id)
        try:
            config = RunConfig.model_validate_json(run.config_json)
        except ValidationError as error:
            raise ConfigError(
                f"the settings of run {run_id} were written by another version and cannot be read"
            ) from error
        return config, read_frozen(self._store.datasets.folder(run.dataset_id))

    def _eyes(self, policy: Policy) -> Eyes:
        policies = self._policies
        return Eyes.of(policy, models_dir=policies.models_dir, allowed=policies.allowed)


class _Stream:
    """Writes pieces; raises `Stopped` once the task was asked to stop."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._told_at = float("-inf")
        self.is_stopped = False

    def write(self, piece: LensPiece) -> None:
        self.is_stopped = not self._write(piece) or self.is_stopped
        self._told_at = time.monotonic()
        if self.is_stopped:
            raise Stopped

    def tell(self, text: str) -> None:
        self.write(LensPiece(text=text))

    def count(self, text: str, done: int, total: int) -> bool:
        """Tells how far it is, now and then; True where the task was asked to stop."""
        if time.monotonic() - self._told_at >= STREAM_SECONDS:
            self._told_at = time.monotonic()
            piece = LensPiece(text=text, done=done, total=total)
            self.is_stopped = not self._write(piece) or self.is_stopped
        return self.is_stopped


def _fitted(
    config: RunConfig,
    rows: Sequence[Demonstration],
    saved: SavedPolicy,
    eyes: Eyes,
    stream: _Stream,
) -> tuple[Discriminator, Judge]:
    policy, limit = saved.policy, config.evaluation.max_new_tokens
    drawn = training_rows(config, rows, policy, NUM_FITTED)
    demonstrations = cut_demonstrations(policy, drawn, limit)
    prompts = [each.prompt_ids for each in demonstrations]
    seed = child_seed(PROBE_SEED, "lens answers to training prompts")
    what = "No discriminator was saved with this run. For a probe: answering training prompts"
    answers = _sampled(policy, prompts, limit, seed, what, stream)
    stream.tell("Fitting the probe")
    probe = probe_for(
        eyes, demonstrations, answers, seed=PROBE_SEED, max_positions=_positions(policy)
    )
    judge = Judge(
        kind="probe", step=saved.step, num_fitted=len(demonstrations), max_new_tokens=limit
    )
    return probe, judge


def _sampled(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    limit: int,
    seed: int,
    what: str,
    stream: _Stream,
) -> list[Answer]:
    return [
        _standing(policy, each) for each in _rollouts(policy, prompts, limit, seed, what, stream)
    ]


def _rollouts(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    limit: int,
    seed: int,
    what: str,
    stream: _Stream,
) -> list[Rollout]:
    """Answers at temperature 1, with backspace where the policy has it."""
    stop = policy.space.eos_id
    num_done = 0

    def take(actions: list[tuple[int, int]]) -> None:
        nonlocal num_done
        num_done += sum(action == stop for _, action in actions)

    stream.write(LensPiece(text=what, done=0, total=len(prompts)))
    rollouts = sample_to(
        policy,
        prompts,
        limit,
        backspace=policy.space.has_backspace,
        seed=seed,
        on_actions=take,
        should_stop=lambda: stream.count(what, num_done, len(prompts)),
    )
    if stream.is_stopped:
        raise Stopped
    return rollouts


def _standing(policy: Policy, rollout: Rollout) -> Answer:
    return answer_of_rollout(rollout, policy.space, policy.tokenizer)


def _pasted(policy: Policy, asked: str, text: str) -> Answer:
    """A text as a whole answer, with its stop token.

    Raises:
        DemonstrationError: It is longer than the model reads.
    """
    row = tokenize_demonstration(policy.tokenizer, Demonstration(asked, text, "pasted"), 0)
    prompt, tokens = row.prompt_ids, row.completion_ids
    limit = policy.max_positions
    if limit is not None and len(prompt) + len(tokens) > limit:
        raise DemonstrationError(
            f"prompt and answer have {len(prompt)} + {len(tokens)} tokens; this model reads up to "
            f"{limit}: shorten one of them"
        )
    return Answer(prompt, tokens, True, answer_text(policy.tokenizer, tokens))


def _positions(policy: Policy) -> int:
    return PASSES_WITHOUT_GRADIENT * pass_positions(policy)
