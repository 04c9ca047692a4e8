"""The lens: how far any policy's answers are from the demonstrations, on axes that runs share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from seqmatch.discriminators import Discriminator, PairFeatures, at_stop
from seqmatch.discriminators.feature_rows import feature_rows
from seqmatch.errors import ConfigError
from seqmatch.lens.answers import Answer, groups_of
from seqmatch.lens.calibration import (
    CalibrationBin,
    calibration_bins,
    calibration_error,
    mean_entropy,
)
from seqmatch.lens.estimates import DivergenceEstimate, cross_fitted_estimates
from seqmatch.lens.eyes import Eyes
from seqmatch.lens.leak_probe import leak_scores
from seqmatch.lens.probe import NUM_QUARTERS, Labelled, fit_probe
from seqmatch.lens.prompt_intervals import Interval, auc_interval
from seqmatch.seeding import child_seed

MIN_PROMPTS_PER_HALF = 2
"""One to fit on and one to stop by."""


@dataclass(frozen=True)
class LensReport:
    """What the probe found; h is that of whole answers, by a probe of the other prompts."""

    num_answers: int
    """Of each side."""
    auc: float
    """P(h of a demonstration > h of a rollout); 1/2 is chance."""
    auc_interval: tuple[float, float]
    """95 %, DeLong's over prompts; no width where all are told apart."""
    leak_auc: float
    """The same of the leak probe, which sees length, stop token and white space alone."""
    leak_auc_interval: tuple[float, float]
    entropy: float
    """Mean entropy of Bernoulli(sigma(h)), in nats: log 2 where nothing can be told apart."""
    score_data: float
    """Mean h of demonstrations, in nats."""
    score_rollouts: float
    """Mean h of rollouts, in nats."""
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float
    """Biased upwards on few answers."""
    estimates: tuple[DivergenceEstimate, ...]
    """One for each registered divergence, in the registry's order."""


def is_measurable(demonstrations: Sequence[Answer], folds: Sequence[int]) -> bool:
    """Returns True where both halves have the prompts that `measure` needs."""
    prompts = [
        {row.prompt_ids for row, at in zip(demonstrations, folds, strict=True) if at == fold}
        for fold in (0, 1)
    ]
    return min(len(each) for each in prompts) >= MIN_PROMPTS_PER_HALF


def measure(
    eyes: Eyes,
    demonstrations: Sequence[Answer],
    answers: Sequence[Answer],
    folds: Sequence[int],
    *,
    seed: int,
    max_positions: int,
) -> LensReport:
    """Returns how far the answers are from the demonstrations.

    Probes are fitted on each half of the prompts and look at the other half, so that no score is
    of an answer, or a prompt, that its probes were fitted to.

    Args:
        eyes: The frozen features.
        demonstrations: One for each row.
        answers: One for each row, to the same prompt.
        folds: The half, 0 or 1, of each row; rows of one prompt share theirs.
        seed: Of the probes; the same seed gives the same report.
        max_positions: Input positions that go through the base model at once.

    Raises:
        ConfigError: The rows are not paired, or a half has less than `MIN_PROMPTS_PER_HALF`
            prompts.
        DemonstrationError: An answer has no token.
    """
    _check(demonstrations, answers, folds)
    groups = groups_of(demonstrations)
    data, rollouts = cross_fitted_scores(
        eyes.features(demonstrations, max_positions),
        eyes.features(answers, max_positions),
        groups,
        folds,
        seed=seed,
    )
    leak = leak_scores(demonstrations, answers, folds, seed=seed)
    found = auc_interval(data, rollouts, folds, groups)
    leaked = auc_interval(*leak, folds, groups)
    bins = calibration_bins(data, rollouts)
    return LensReport(
        num_answers=len(answers),
        auc=found.value,
        auc_interval=_ends(found),
        leak_auc=leaked.value,
        leak_auc_interval=_ends(leaked),
        entropy=mean_entropy(np.concatenate([data, rollouts])),
        score_data=float(data.mean()),
        score_rollouts=float(rollouts.mean()),
        calibration=bins,
        calibration_error=calibration_error(bins),
        estimates=cross_fitted_estimates(
            data, rollouts, groups, score_limit=score_limit(len(answers))
        ),
    )


def score_limit(num_answers: int) -> float:
    """Returns log(n)/2, where |h| is held in the estimates of n answers of each side, in nats.

    One answer at the limit that the probe is wrong about then moves a mean of e^|h| by 1/sqrt(n),
    no more than the sampling error. The price: estimates see no ratio beyond sqrt(n), so those of
    divergences that grow without end level off. The bound stays one.
    """
    return 0.5 * math.log(num_answers)


def metrics_of(report: LensReport) -> dict[str, float]:
    """Returns the numbers of a report by their METRICS names."""
    metrics = {
        "eval/probe_auc": report.auc,
        "eval/leak_auc": report.leak_auc,
        "eval/probe_calibration_error": report.calibration_error,
    }
    for each in report.estimates:
        metrics[f"eval/bound_{each.name}"] = each.bound.value
        metrics[f"eval/plug_in_{each.name}"] = each.plug_in
    return metrics


def cross_fitted_scores(
    demonstrations: PairFeatures,
    answers: PairFeatures,
    groups: Sequence[int],
    folds: Sequence[int],
    *,
    seed: int,
) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
    """Returns h of each whole answer, in nats, by probes of the half that it is not in.

    The mean of four probes, each stopped by another quarter of that half: one quarter of few
    prompts is a noisy judge, and the mean of functions of an answer is one.

    Args:
        demonstrations: Features of one demonstration a row.
        answers: Features of one rollout a row.
        groups: The prompt of each row.
        folds: The half, 0 or 1, of each row.
        seed: Of the probes.

    Raises:
        ConfigError: A half has less than two prompts.
    """
    sides = (demonstrations, answers)
    scores = np.zeros((2, len(groups)))
    for fold in (0, 1):
        inside = [row for row, at in enumerate(folds) if at == fold]
        outside = [row for row, at in enumerate(folds) if at != fold]
        labels = tuple(groups[row] for row in outside)
        data, rollouts = (Labelled(feature_rows(side, outside), labels) for side in sides)
        unseen = [feature_rows(side, inside) for side in sides]
        of_half = child_seed(seed, "probe", fold)
        for quarter in range(NUM_QUARTERS):
            probe = fit_probe(data, rollouts, seed=of_half, quarter=quarter)
            for row, side in enumerate(unseen):
                scores[row, inside] += whole_answer_scores(probe, side) / NUM_QUARTERS
    return scores[0], scores[1]


@torch.no_grad()
def whole_answer_scores(
    discriminator: Discriminator, features: PairFeatures
) -> Float[np.ndarray, " answer"]:
    """Returns h at the last token of each answer: the log ratio of whole answers, in nats."""
    found = at_stop(discriminator(features), features.is_action)
    result: Float[np.ndarray, " answer"] = found.double().cpu().numpy()
    return result


def probe_for(
    eyes: Eyes,
    demonstrations: Sequence[Answer],
    answers: Sequence[Answer],
    *,
    seed: int,
    max_positions: int,
) -> Discriminator:
    """Returns one probe of all these answers, for the heat map of a run without discriminator.

    A quarter of the prompts says when to stop, as in `measure`; nothing is left out to value it on,
    so no estimate may be made of its scores. Scores are of `eyes.features`.

    Raises:
        ConfigError: The two sides have less than two prompts in common.
    """
    count = len(demonstrations)
    groups = groups_of([*demonstrations, *answers])
    sides = (
        Labelled(eyes.features(side, max_positions), tuple(labels))
        for side, labels in ((demonstrations, groups[:count]), (answers, groups[count:]))
    )
    return fit_probe(*sides, seed=child_seed(seed, "probe of all"))


def _check(
    demonstrations: Sequence[Answer], answers: Sequence[Answer], folds: Sequence[int]
) -> None:
    prompts = [[each.prompt_ids for each in side] for side in (demonstrations, answers)]
    if prompts[0] != prompts[1] or len(folds) != len(answers):
        raise ConfigError(
            f"{len(demonstrations)} demonstrations, {len(answers)} answers, {len(folds)} halves; "
            "allowed: one of each for every row, demonstration and answer to the same prompt"
        )
    if not is_measurable(demonstrations, folds):
        raise ConfigError(
            f"a half of the prompts has less than {MIN_PROMPTS_PER_HALF} of them; the lens fits a "
            "probe on each half"
        )


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
