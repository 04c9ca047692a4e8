"""The registry of metrics: every number that a run may report, with its unit and its meaning.

Axis labels, tables, documentation and the reporter's check read it; a metric that is not here
cannot be reported. Log quantities are in nats.
"""

from seqmatch.metrics.discriminators import DISCRIMINATORS
from seqmatch.metrics.evaluation import EVALUATION
from seqmatch.metrics.lens import LENS
from seqmatch.metrics.record import Metric
from seqmatch.metrics.time_shares import TIME_SHARES
from seqmatch.metrics.training import TRAINING

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*TRAINING, *EVALUATION, *LENS, *DISCRIMINATORS, *TIME_SHARES)
}

__all__ = ["METRICS", "Metric"]
