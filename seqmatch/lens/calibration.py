"""Whether sigma(h) is the share of demonstrations that it claims to be, and how sure it is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import entr, expit

NUM_BINS = 10


@dataclass(frozen=True)
class CalibrationBin:
    """Answers with about one sigma(h)."""

    mean_probability: float
    """Mean sigma(h)."""
    share_data: float
    """Share of demonstrations among them."""
    count: int


def calibration_bins(
    data: Float[np.ndarray, " answer"], rollouts: Float[np.ndarray, " answer"]
) -> tuple[CalibrationBin, ...]:
    """Returns the answers of both sides in ten equally wide bins of sigma(h), empty ones left out.

    Args:
        data: h of demonstrations, that h was not fitted to.
        rollouts: h of equally many rollouts.
    """
    probabilities = expit(np.concatenate([data, rollouts]))
    is_data = np.repeat([True, False], [len(data), len(rollouts)])
    at = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    return tuple(
        CalibrationBin(
            float(probabilities[at == each].mean()),
            float(is_data[at == each].mean()),
            int((at == each).sum()),
        )
        for each in np.unique(at)
    )


def calibration_error(bins: tuple[CalibrationBin, ...]) -> float:
    """Returns the mean over answers of |sigma(h) - share of demonstrations| of their bin.

    Biased upwards on few answers: a bin's share is noisy.
    """
    total = sum(each.count for each in bins)
    gaps = (each.count * abs(each.mean_probability - each.share_data) for each in bins)
    return sum(gaps) / total


def mean_entropy(h: Float[np.ndarray, " answer"]) -> float:
    """Returns the mean entropy of Bernoulli(sigma(h)), in nats."""
    return float((entr(expit(h)) + entr(expit(-h))).mean())
