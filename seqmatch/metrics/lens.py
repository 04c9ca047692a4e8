"""What the lens measures: whole answers of fresh rollouts against held-out demonstrations.

By a probe on frozen features of the base model, the same for all runs on it; each divergence of the
registry has its two metrics without a line here.
"""

from seqmatch.divergences import DIVERGENCES, Divergence
from seqmatch.metrics.record import Metric


def full_title(divergence: Divergence) -> str:
    """The title, with the order where it stands for a family."""
    order = divergence.order
    return divergence.title if order is None else f"{divergence.title} at order {order:g}"


def _bound(divergence: Divergence) -> Metric:
    return Metric(
        f"eval/bound_{divergence.name}",
        f"{divergence.title}, lower bound",
        "",
        "lower",
        f"{full_title(divergence)} between the laws of whole answers, held-out demonstrations and "
        "fresh rollouts: a variational lower bound in expectation, cross-fitted over prompts; it "
        "can be below 0 where the two are near each other, and is small too where the probe sees "
        "little.",
    )


def _plug_in(divergence: Divergence) -> Metric:
    return Metric(
        f"eval/plug_in_{divergence.name}",
        f"{divergence.title}, plug-in",
        "",
        "lower",
        f"{full_title(divergence)} as the mean over held-out demonstrations of its generator at "
        "the probe's ratio: a biased estimate, neither an upper nor a lower bound.",
    )


_PROBE: tuple[Metric, ...] = (
    Metric(
        "eval/probe_auc",
        "AUC of the probe",
        "share",
        "lower",
        "P(h of a demonstration > h of a rollout), whole answers, by a probe on frozen features of "
        "the base model, fitted on the other half of the prompts; 1/2 is chance.",
    ),
    Metric(
        "eval/leak_auc",
        "AUC of length and white space",
        "share",
        "lower",
        "The same for trees that see only an answer's number of tokens, its white space and "
        "whether it was finished; 1/2 is chance.",
    ),
    Metric(
        "eval/probe_calibration_error",
        "Calibration error of the probe",
        "share",
        "lower",
        "Mean gap between sigma(h) of the probe and the share of demonstrations among answers with "
        "about that sigma(h), in ten bins. Biased upwards on few answers.",
    ),
)

LENS: tuple[Metric, ...] = (
    *_PROBE,
    *(metric(entry) for entry in DIVERGENCES.values() for metric in (_bound, _plug_in)),
)
