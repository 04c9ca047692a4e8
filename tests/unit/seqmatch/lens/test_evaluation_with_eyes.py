"""Eyes in an evaluation: what they add, and what they leave as it was."""

from seqmatch.config import EvaluationConfig
from seqmatch.divergences import DIVERGENCES
from seqmatch.evaluation import MIN_PROMPTS, Evaluation, HeldOutRows, evaluate
from seqmatch.lens import Eyes
from seqmatch.metrics import METRICS
from seqmatch.objectives.dispatch import RewardScale
from seqmatch.types import Demonstration, TokenizedDemonstration
from tests.tiny_models import policy_of, tiny_llama
from tests.unit.seqmatch.lens.small_laws import small_eyes

STOP = 10


def _prompt(number: int) -> tuple[int, int]:
    return 1 + number // 9, number % 9


def _rows(count: int) -> HeldOutRows:
    return HeldOutRows(
        tuple(Demonstration("p", "q", f"{n}") for n in range(count)),
        tuple(TokenizedDemonstration(_prompt(n), (3, 4, 5, 6, STOP), n) for n in range(count)),
    )


def _evaluate(count: int, eyes: Eyes | None, *, with_rollouts: bool = True) -> Evaluation:
    return evaluate(
        policy_of(tiny_llama()),
        _rows(count),
        EvaluationConfig(max_new_tokens=4),
        RewardScale(0.1, 0.9),
        max_positions=100,
        seed=3,
        with_rollouts=with_rollouts,
        eyes=eyes,
    )


def test_eyes_add_their_metrics_and_change_no_other() -> None:
    without, found = _evaluate(MIN_PROMPTS, None), _evaluate(MIN_PROMPTS, small_eyes())

    added = found.metrics.keys() - without.metrics.keys()
    assert added == {
        *("eval/probe_auc", "eval/leak_auc", "eval/probe_calibration_error"),
        *(f"eval/bound_{name}" for name in DIVERGENCES),
        *(f"eval/plug_in_{name}" for name in DIVERGENCES),
    }
    assert added <= METRICS.keys()
    assert found.metrics == {**found.metrics, **without.metrics}
    assert found == _evaluate(MIN_PROMPTS, small_eyes())


def test_an_evaluation_hands_on_its_trajectories() -> None:
    found = _evaluate(8, None)

    assert [row.labels for row in found.demonstrated] == [(3, 4, 5, 6, STOP)] * 8
    assert [row.prompt_ids for row in found.sampled] == [_prompt(n) for n in range(8)]
    assert [row.labels for row in found.sampled] == [trace.actions for trace in found.traces]
    only_likelihood = _evaluate(8, small_eyes(), with_rollouts=False)
    assert (only_likelihood.demonstrated, only_likelihood.sampled) == ((), ())
    assert not any(name.startswith("eval/probe") for name in only_likelihood.metrics)


def test_with_too_few_prompts_the_lens_has_nothing_to_say() -> None:
    assert "eval/probe_auc" not in _evaluate(MIN_PROMPTS - 1, small_eyes()).metrics
