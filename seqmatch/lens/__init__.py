"""The lens: any policy's answers against the demonstrations, by a probe on frozen features.

P = law of the demonstrations, Q = law of the rollouts, both of whole answers as they stand in the
end; h = log P/Q in nats. Runs on one base model meet on the same axes. docs/method.md, "The lens".
"""

from seqmatch.lens.answers import Answer, answer_of_demonstration, answer_of_rollout
from seqmatch.lens.calibration import CalibrationBin, calibration_bins, calibration_error
from seqmatch.lens.estimates import (
    BOUND_KIND,
    PLUG_IN_KIND,
    DivergenceEstimate,
    cross_fitted_estimates,
    plug_in,
)
from seqmatch.lens.eyes import Eyes
from seqmatch.lens.prompt_intervals import Interval
from seqmatch.lens.report import (
    LensReport,
    is_measurable,
    measure,
    metrics_of,
    probe_for,
)
from seqmatch.lens.token_scores import TokenScores, token_scores

__all__ = [
    "BOUND_KIND",
    "PLUG_IN_KIND",
    "Answer",
    "CalibrationBin",
    "DivergenceEstimate",
    "Eyes",
    "Interval",
    "LensReport",
    "TokenScores",
    "answer_of_demonstration",
    "answer_of_rollout",
    "calibration_bins",
    "calibration_error",
    "cross_fitted_estimates",
    "is_measurable",
    "measure",
    "metrics_of",
    "plug_in",
    "probe_for",
    "token_scores",
]
