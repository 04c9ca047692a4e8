"""What the lens answers, made up, for tests of what the pages say of it."""

from typing import Any

from seqmatch.jobs.lens_types import (
    Between,
    CalibrationRow,
    EstimateRow,
    Judge,
    Measured,
    ScoredAnswer,
    ScoredToken,
)

HOSTILE = '<img src=x onerror="alert(1)">'
PROBE = Judge(kind="probe", step=400, num_fitted=128, max_new_tokens=8)
OWN = Judge(kind="discriminator", step=60, max_new_tokens=8)


def between(value: float, half: float = 0.05) -> Between:
    return Between(value=value, low=value - half, high=value + half)


def measured(auc: float = 0.95, leak: float = 0.6, **changes: Any) -> Measured:
    found = Measured(
        step=400,
        backspace=True,
        num_answers=128,
        max_new_tokens=8,
        auc=between(auc),
        leak_auc=between(leak),
        entropy=0.4,
        score_data=1.25,
        score_rollouts=-1.5,
        calibration=[
            CalibrationRow(mean_probability=0.15, share_data=0.1, count=100),
            CalibrationRow(mean_probability=0.85, share_data=0.9, count=156),
        ],
        calibration_error=0.05,
        estimates=[
            EstimateRow(name="forward_kl", title="Forward KL", bound=between(1.0), plug_in=1.2),
            EstimateRow(name="reverse_kl", title=HOSTILE, bound=between(-0.0001), plug_in=0.3),
        ],
        bound_kind="a bound",
        plug_in_kind="biased",
        score_limit=2.4,
    )
    return found.model_copy(update=changes)


def scored(*tokens: tuple[str, float], is_sampled: bool = False, **changes: Any) -> ScoredAnswer:
    """An answer of these texts and increments; the last one is the stop token."""
    h, found = 0.0, []
    for place, (text, increment) in enumerate(tokens):
        h += increment
        is_stop = place == len(tokens) - 1
        token = ScoredToken(id=place, text=text, is_stop=is_stop, h=h, increment=increment)
        found.append(token)
    return ScoredAnswer(is_sampled=is_sampled, is_finished=True, tokens=found, **changes)
