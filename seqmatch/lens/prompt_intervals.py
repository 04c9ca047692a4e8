"""Means over answers with intervals over prompts, and the AUC with DeLong's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NORMAL_975 = 1.959964


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def mean_interval(terms: Float[np.ndarray, " answer"], groups: Sequence[int]) -> Interval:
    """Returns the mean of the terms, normal, with answers to one prompt counted together.

        SE^2 = G/(G-1) sum_g (sum_{i in g} (x_i - mean))^2 / n^2

    With one answer a prompt that is the usual standard error. The terms count as independent over
    prompts; one prompt alone gives an infinite interval.
    """
    mean = float(terms.mean())
    sums = np.bincount(np.asarray(groups), weights=terms - mean)
    num_groups = len(set(groups))
    if num_groups < 2:
        return Interval(mean, -np.inf, np.inf)
    error = np.sqrt(num_groups / (num_groups - 1) * (sums**2).sum()) / len(terms)
    half = NORMAL_975 * float(error)
    return Interval(mean, mean - half, mean + half)


def auc_placements(
    data: Float[np.ndarray, " answer"], rollouts: Float[np.ndarray, " answer"]
) -> tuple[Float[np.ndarray, " answer"], Float[np.ndarray, " answer"]]:
    """Returns, for each demonstration, the share of rollouts that score less, and the reverse.

    Equal scores count half. The mean of either is the AUC.

    Source: DeLong et al. 1988, equations 2 to 4.
    """
    comparison = 0.5 * (1.0 + np.sign(data[:, None] - rollouts[None, :]))
    return comparison.mean(axis=1), comparison.mean(axis=0)


def auc_interval(
    data: Float[np.ndarray, " answer"],
    rollouts: Float[np.ndarray, " answer"],
    folds: Sequence[int],
    groups: Sequence[int],
) -> Interval:
    """Returns the AUC of cross-fitted scores with DeLong's interval over prompts.

    Scores of two probes cannot be compared: the AUC is found within each half of the prompts, and
    the halves are averaged by their number of answers. DeLong's variance is that of the placements;
    demonstration i and rollout i have one prompt, so their two placements are added before it
    is taken. The interval is cut at 0 and 1 and has no width where all are told apart.

    Args:
        data: h of demonstrations.
        rollouts: h of rollouts, in the same order of prompts.
        folds: The half of each prompt.
        groups: The prompt of each row.

    Source: DeLong et al. 1988; pairing and folds are ours.
    """
    areas, noise = np.zeros(len(data)), np.zeros(len(data))
    for fold in set(folds):
        chosen = np.asarray(folds) == fold
        of_data, of_rollouts = auc_placements(data[chosen], rollouts[chosen])
        areas[chosen] = of_data.mean()
        # Centred within the half, so that a difference between the two probes is no noise.
        noise[chosen] = of_data + of_rollouts - 2.0 * of_data.mean()
    around = mean_interval(noise, groups)
    area = float(areas.mean())
    return Interval(area, max(area + around.low, 0.0), min(area + around.high, 1.0))
