"""What of a run its monitor is shown, and the flags that it raises then."""

from collections.abc import Mapping

import numpy as np

from seqmatch.collapse import DiscriminatorVerdict
from seqmatch.config import RunConfig
from seqmatch.decoding.generation import standing_tokens
from seqmatch.evaluation import MIN_PROMPTS
from seqmatch.flags import Flag
from seqmatch.objectives.dispatch import imitation_weight
from seqmatch.round_summary import RoundSummary, summarise
from seqmatch.rounds import Round, RoundAnswer
from seqmatch.training_state import TrainState


def flags_of_round(config: RunConfig, state: TrainState) -> tuple[Flag, ...]:
    """Shows a fresh round to the monitor, from the end of the imitation warm-up on."""
    beta = imitation_weight(config.objective, state.step, config.optimization.num_steps)
    is_fresh = state.round is not None and state.round.born_at_step == state.step
    if state.monitor is None or state.round is None or not is_fresh or beta >= 1.0:
        return ()
    return state.monitor.after_round(summary_of(state.round, state.policy.space.backspace_id))


def flags_of_terms(state: TrainState, terms: Mapping[str, float]) -> tuple[Flag, ...]:
    """Shows the discriminator's verdict on a batch, whether or not it led to an update."""
    if state.monitor is None or "discriminator/entropy" not in terms:
        return ()
    names = ("accuracy_data", "accuracy_rollouts", "entropy")
    verdict = DiscriminatorVerdict(*(terms[f"discriminator/{name}"] for name in names))
    return state.monitor.after_update(verdict)


def flags_of_evaluation(
    state: TrainState, metrics: Mapping[str, float], num_prompts: int
) -> tuple[Flag, ...]:
    """Shows how well a probe, and the run's discriminator, tell the answers from demonstrations."""
    if state.monitor is None:
        return ()
    own = metrics.get("discriminator/held_out_auc") if num_prompts >= MIN_PROMPTS else None
    return state.monitor.after_evaluation(metrics.get("eval/probe_auc"), own)


def summary_of(sampled: Round, backspace_id: int) -> RoundSummary:
    """Returns what a round looks like to the monitor: what stands in the end of its answers."""
    standing = [standing_tokens(one.labels, backspace_id) for one in sampled.trajectories()]
    prompts = [one.prompt_ids for one in sampled.trajectories()]
    divergences = [_sampled_kl(answer) for answer in sampled.answers]
    known = [value for value in divergences if value is not None]
    return summarise(standing, prompts, sum(known) / len(known) if known else None)


def _sampled_kl(answer: RoundAnswer) -> float | None:
    """The estimate k3 of the KL to the reference, of one fresh answer; None without a reference."""
    if not answer.reference_log_probs:
        return None
    away = np.subtract(answer.reference_log_probs, answer.old_log_probs)
    return float((np.expm1(away) - away).sum())
