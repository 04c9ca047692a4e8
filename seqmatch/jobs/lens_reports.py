"""What the lens found, as the pages and the command line read it."""

from seqmatch.decoding.generation import Rollout
from seqmatch.divergences import DIVERGENCES
from seqmatch.jobs.lens_types import (
    Between,
    CalibrationRow,
    EstimateRow,
    Measured,
    ScoredAnswer,
    ScoredToken,
)
from seqmatch.lens import BOUND_KIND, PLUG_IN_KIND, Answer, LensReport, TokenScores
from seqmatch.lens.report import score_limit
from seqmatch.metrics.lens import full_title
from seqmatch.policy import Policy
from seqmatch.text import decode_pieces


def measured_of(report: LensReport, step: int, max_new_tokens: int, *, backspace: bool) -> Measured:
    """Returns a report with what was measured.

    Args:
        report: The report.
        step: Of the policy.
        max_new_tokens: Where answers were cut.
        backspace: Whether they were sampled with the backspace action.
    """
    return Measured(
        step=step,
        backspace=backspace,
        num_answers=report.num_answers,
        max_new_tokens=max_new_tokens,
        auc=_between(report.auc, report.auc_interval),
        leak_auc=_between(report.leak_auc, report.leak_auc_interval),
        entropy=report.entropy,
        score_data=report.score_data,
        score_rollouts=report.score_rollouts,
        calibration=[
            CalibrationRow(
                mean_probability=row.mean_probability, share_data=row.share_data, count=row.count
            )
            for row in report.calibration
        ],
        calibration_error=report.calibration_error,
        estimates=[
            EstimateRow(
                name=row.name,
                title=full_title(DIVERGENCES[row.name]),
                bound=_between(row.bound.value, (row.bound.low, row.bound.high)),
                plug_in=row.plug_in,
            )
            for row in report.estimates
        ],
        bound_kind=BOUND_KIND,
        plug_in_kind=PLUG_IN_KIND,
        score_limit=score_limit(report.num_answers),
    )


def scored_of(
    policy: Policy, answer: Answer, rollout: Rollout | None, scores: TokenScores
) -> ScoredAnswer:
    """Returns an answer with its scores, token by token.

    Args:
        policy: Whose tokens these are.
        answer: What stands.
        rollout: The way it was sampled; None where it was pasted.
        scores: Of its tokens, in order.
    """
    pieces = decode_pieces(policy.tokenizer, answer.token_ids)
    rows = zip(answer.token_ids, pieces, scores.h, scores.increments, strict=True)
    actions = rollout.actions if rollout else ()
    return ScoredAnswer(
        is_sampled=rollout is not None,
        is_finished=answer.is_finished,
        num_deletions=actions.count(policy.space.backspace_id),
        tokens=[
            ScoredToken(
                id=token,
                text=piece,
                is_stop=token == policy.space.eos_id,
                h=float(h),
                increment=float(increment),
            )
            for token, piece, h, increment in rows
        ],
    )


def _between(value: float, ends: tuple[float, float]) -> Between:
    return Between(value=value, low=ends[0], high=ends[1])
