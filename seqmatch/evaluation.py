"""How good a policy is on held-out prompts: likelihood of the demonstrations, and fresh rollouts.

Held-out rows are taken clean (no noise inserted), in the action space of the policy. Rollouts are
sampled at temperature 1, one for each prompt, with backspace where the policy has it. Where eyes
are given, the lens (`seqmatch.lens`) measures how far the two are apart, the same way for all runs.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from seqmatch.config import EvaluationConfig
from seqmatch.corruption import clean_trajectory
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import (
    OnActions,
    Rollout,
    UniformSource,
    generate,
    standing_tokens,
    to_trace,
)
from seqmatch.demonstrations import trains_stop
from seqmatch.divergence_estimate import cross_fitted_bound
from seqmatch.lens import (
    Answer,
    Eyes,
    answer_of_demonstration,
    answer_of_rollout,
    is_measurable,
    measure,
    metrics_of,
)
from seqmatch.objectives.dispatch import RewardScale
from seqmatch.policy import Policy
from seqmatch.reporting import Trace
from seqmatch.rollouts import ACTIONS_PER_TOKEN, to_trajectory
from seqmatch.text import answer_text, prompt_text
from seqmatch.trajectory_values import TrajectoryValues, occupancy_sample, trajectory_values
from seqmatch.types import Demonstration, TokenizedDemonstration, Trajectory

MIN_PROMPTS = 32
"""With fewer the lens's numbers are noise, and a point of a curve has no interval beside it. On
demand, where it has one, the lens takes fewer."""


@dataclass(frozen=True)
class HeldOutRows:
    """The rows of an evaluation, as text and as tokens, in one order."""

    demonstrations: tuple[Demonstration, ...]
    tokenized: tuple[TokenizedDemonstration, ...]

    def first(self, count: int) -> "HeldOutRows":
        """Returns the first `count` rows, or all where there are fewer."""
        return HeldOutRows(self.demonstrations[:count], self.tokenized[:count])

    def folds(self) -> list[int]:
        """Returns the half, 0 or 1, that each row belongs to; rows of one group share theirs."""
        number_of: dict[str, int] = {}
        return [number_of.setdefault(row.group, len(number_of)) % 2 for row in self.demonstrations]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, float]
    """By METRICS name."""
    traces: tuple[Trace, ...]
    """One for each rollout, in the order of the rows."""
    demonstrated: tuple[Trajectory, ...] = ()
    """The rows, clean, in their order; empty without rollouts."""
    sampled: tuple[Trajectory, ...] = ()
    """The rollouts, in the order of the rows, with their backspaces."""


def likelihood_metrics(found: Sequence[TrajectoryValues], discount: float) -> dict[str, float]:
    """Returns the metrics of held-out demonstrations: NLL in nats per token, mean |d|, and V.

    d = l(a|s) - discount V(s'); means are over all tokens of all rows, V over rows.
    """
    log_probs = np.concatenate([each.log_probs() for each in found])
    differences = np.concatenate([each.temporal_differences(discount) for each in found])
    return {
        "eval/nll": float(-log_probs.mean()),
        "eval/td": float(np.abs(differences).mean()),
        "eval/value_start": float(np.mean([each.values[0] for each in found])),
        "eval/value_end": float(np.mean([each.values[-1] for each in found])),
    }


def rollout_metrics(
    rollouts: Sequence[Rollout], traces: Sequence[Trace], backspace_id: int
) -> dict[str, float]:
    """Returns the metrics of fresh rollouts; the shares are over rollouts, or over all actions."""
    num_actions = sum(len(rollout.actions) for rollout in rollouts)
    num_backspaces = sum(rollout.actions.count(backspace_id) for rollout in rollouts)
    standing = [len(standing_tokens(rollout.actions, backspace_id)) for rollout in rollouts]
    matches = [trace.is_finished and trace.text == trace.reference for trace in traces]
    return {
        "eval/exact_match": float(np.mean(matches)),
        "rollout/backspace_rate": num_backspaces / max(num_actions, 1),
        "rollout/length": float(np.mean(standing)),
        "rollout/truncated": float(np.mean([not trace.is_finished for trace in traces])),
    }


def sample_answers(
    policy: Policy,
    rows: HeldOutRows,
    max_new_tokens: int,
    *,
    backspace: bool,
    seed: int,
    should_stop: Callable[[], bool] | None = None,
) -> list[Rollout]:
    """Returns one answer for each row, as `sample_to`."""
    prompts = [row.prompt_ids for row in rows.tokenized]
    return sample_to(
        policy, prompts, max_new_tokens, backspace=backspace, seed=seed, should_stop=should_stop
    )


def sample_to(
    policy: Policy,
    prompts_ids: Sequence[tuple[int, ...]],
    max_new_tokens: int,
    *,
    backspace: bool,
    seed: int,
    on_actions: OnActions | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Rollout]:
    """Returns one answer for each prompt, sampled at temperature 1.

    Without `backspace` the other actions' probabilities are renormalised. The same seed gives every
    policy, and a policy with and without backspace, the same random numbers.
    """
    decoding = DecodingConfig(
        temperature=1.0,
        max_new_tokens=max_new_tokens,
        max_actions=min(ACTIONS_PER_TOKEN * max_new_tokens, 16_384),
    )
    return generate(
        policy,
        prompts_ids,
        decoding,
        backspace=backspace,
        uniforms=UniformSource(seed),
        on_actions=on_actions,
        should_stop=should_stop,
    )


def answer_traces(policy: Policy, rows: HeldOutRows, rollouts: Sequence[Rollout]) -> list[Trace]:
    """Returns the answers as people read them, each with the demonstrated one as reference.

    Of a demonstration that no limit has cut the reference is the text of its tokens, which a chat
    template may have trimmed: what the policy can write.
    """
    traces = []
    for rollout, row, tokens in zip(rollouts, rows.demonstrations, rows.tokenized, strict=True):
        is_whole = trains_stop(tokens, policy.space.eos_id)
        text = answer_text(policy.tokenizer, tokens.completion_ids) if is_whole else row.completion
        traces.append(to_trace(policy, rollout, prompt_text(row.prompt), text))
    return traces


def cut_demonstrations(policy: Policy, rows: HeldOutRows, max_new_tokens: int) -> list[Answer]:
    """Returns the demonstrations as the lens compares them with rollouts of this policy.

    They are cut where the limit of the rollouts, or of the model's context, would have ended them.
    """
    answers = []
    for row in rows.tokenized:
        room = (policy.max_positions or math.inf) - len(row.prompt_ids)
        limit = int(min(max_new_tokens, room))
        answers.append(answer_of_demonstration(row, policy.space, policy.tokenizer, limit))
    return answers


def lens_metrics(
    eyes: Eyes,
    policy: Policy,
    rows: HeldOutRows,
    rollouts: Sequence[Rollout],
    settings: EvaluationConfig,
    *,
    max_positions: int,
    seed: int,
) -> dict[str, float]:
    """Returns the lens's metrics of these rollouts; none of fewer than `MIN_PROMPTS` prompts."""
    space, tokenizer = policy.space, policy.tokenizer
    demonstrations = cut_demonstrations(policy, rows, settings.max_new_tokens)
    num_prompts = len({row.prompt_ids for row in demonstrations})
    if num_prompts < MIN_PROMPTS or not is_measurable(demonstrations, rows.folds()):
        return {}
    answers = [answer_of_rollout(rollout, space, tokenizer) for rollout in rollouts]
    report = measure(
        eyes, demonstrations, answers, rows.folds(), seed=seed, max_positions=max_positions
    )
    return metrics_of(report)


def evaluate(
    policy: Policy,
    rows: HeldOutRows,
    settings: EvaluationConfig,
    scale: RewardScale,
    *,
    max_positions: int,
    seed: int,
    with_rollouts: bool = True,
    eyes: Eyes | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Evaluation:
    """Returns all metrics of a policy on held-out rows.

    `eval/divergence` is the bound of `seqmatch.divergence_estimate` between the demonstrations and
    the rollouts of this evaluation.

    Args:
        policy: The policy; its weights are not changed.
        rows: At least one row.
        settings: Limits of the rollouts.
        scale: Of the implied reward.
        max_positions: Input positions that go through the policy at once.
        seed: Of the rollouts: the same seed gives every policy the same random numbers. Of the
            probes too.
        with_rollouts: Without them only the metrics of the likelihood are found.
        eyes: Of the base model; they add the metrics of `lens_metrics` where there are rollouts.
        should_stop: Asked while sampling; where it says so the evaluation ends with the metrics of
            the likelihood alone.
    """
    space = policy.space
    clean = [clean_trajectory(row, space) for row in rows.tokenized]
    demonstrated = trajectory_values(policy, clean, max_positions)
    metrics = likelihood_metrics(demonstrated, scale.discount)
    if not with_rollouts:
        return Evaluation(metrics, ())
    rollouts = sample_answers(
        policy,
        rows,
        settings.max_new_tokens,
        backspace=space.has_backspace,
        seed=seed,
        should_stop=should_stop,
    )
    if should_stop is not None and should_stop():
        return Evaluation(metrics, ())
    traces = answer_traces(policy, rows, rollouts)
    metrics |= rollout_metrics(rollouts, traces, space.backspace_id)
    sampled = [to_trajectory(rollout, space) for rollout in rollouts]
    found = trajectory_values(policy, sampled, max_positions)
    sides = (
        occupancy_sample(
            side, space, folds=rows.folds(), alpha=scale.alpha, discount=scale.discount
        )
        for side in (demonstrated, found)
    )
    metrics["eval/divergence"] = cross_fitted_bound(*sides)
    if eyes is not None:
        metrics |= lens_metrics(
            eyes, policy, rows, rollouts, settings, max_positions=max_positions, seed=seed
        )
    return Evaluation(metrics, tuple(traces), tuple(clean), tuple(sampled))
