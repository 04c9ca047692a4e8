"""The probe on laws that are known: alike, different, and different by a known divergence."""

from itertools import product

import numpy as np
import pytest
import torch

from seqmatch.decoding.generation import Rollout
from seqmatch.errors import ConfigError
from seqmatch.lens import (
    Answer,
    answer_of_demonstration,
    answer_of_rollout,
    is_measurable,
    measure,
    metrics_of,
    probe_for,
    token_scores,
)
from seqmatch.metrics import METRICS
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.types import TokenizedDemonstration
from tests.tiny_models import policy_of, tiny_llama
from tests.unit.seqmatch.lens.small_laws import (
    FOLDS,
    NUM_ANSWERS,
    STOP,
    answer,
    small_eyes,
    two_letters,
)

SEEDS = range(12)
T_975 = 2.201
"""Of 11 degrees of freedom."""
T_995 = 3.106


def _over_seeds(share_data: float, share_model: float) -> list[dict[str, float]]:
    eyes = small_eyes()
    found = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        data, rollouts = two_letters(rng, share_data), two_letters(rng, share_model)
        report = measure(eyes, data, rollouts, FOLDS, seed=seed, max_positions=10**6)
        found.append(metrics_of(report))
    return found


def _mean_and_error(found: list[dict[str, float]], name: str) -> tuple[float, float]:
    values = np.array([each[name] for each in found])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def test_laws_that_are_alike_are_not_told_apart() -> None:
    found = _over_seeds(0.5, 0.5)

    area, error = _mean_and_error(found, "eval/probe_auc")
    assert abs(area - 0.5) <= T_995 * error
    for name in (each for each in METRICS if each.startswith("eval/bound_")):
        bound, error = _mean_and_error(found, name)
        assert bound <= T_995 * error, name


def test_a_bound_is_above_zero_and_below_the_enumerated_divergence() -> None:
    found = _over_seeds(0.85, 0.2)
    p, q = (
        np.array([np.prod([share if one else 1 - share for one in letters]) for letters in _WORDS])
        for share in (0.85, 0.2)
    )
    exact = {
        "reverse_kl": float((q * np.log(q / p)).sum()),
        "forward_kl": float((p * np.log(p / q)).sum()),
        "total_variation": float(np.abs(p - q).sum() / 2),
        "chi_square_mixture": float(((p - q) ** 2 / (p + q)).sum()),
    }
    ratio = np.log(p / q)
    best_area = sum(
        p[i]
        * q[j]
        * (1.0 if ratio[i] > ratio[j] + 1e-9 else 0.5 * (abs(ratio[i] - ratio[j]) < 1e-9))
        for i, j in product(range(4), repeat=2)
    )

    area, error = _mean_and_error(found, "eval/probe_auc")
    assert 0.5 + T_995 * error < area <= best_area + T_995 * error
    for name, value in exact.items():
        bound, error = _mean_and_error(found, f"eval/bound_{name}")
        assert T_995 * error < bound <= value + T_995 * error, name


_WORDS = list(product((True, False), repeat=2))


def test_laws_without_a_common_answer_are_told_apart() -> None:
    """The true AUC is 1: other tokens everywhere, which the eyes cannot fail to see."""
    data, rollouts = ([answer(row, (at,) * 6) for row in range(NUM_ANSWERS)] for at in (1, 2))

    report = measure(small_eyes(), data, rollouts, FOLDS, seed=0, max_positions=10**6)

    assert report.auc == 1.0
    assert report.score_data > 0 > report.score_rollouts
    assert report.entropy < np.log(2)
    assert report.leak_auc == 0.5
    assert report.num_answers == sum(each.count for each in report.calibration) / 2


def test_the_same_seed_gives_the_same_report_and_the_global_generator_is_untouched() -> None:
    rng = np.random.default_rng(0)
    data, rollouts = two_letters(rng, 0.8), two_letters(rng, 0.2)
    eyes = small_eyes()
    before = torch.get_rng_state()

    one, two = (measure(eyes, data, rollouts, FOLDS, seed=4, max_positions=10**6) for _ in range(2))

    assert one == two
    assert torch.equal(before, torch.get_rng_state())


def test_equal_answers_give_no_difference_at_all() -> None:
    data = two_letters(np.random.default_rng(0), 0.5)

    report = measure(small_eyes(), data, data, FOLDS, seed=0, max_positions=10**6)

    assert report.auc == 0.5
    assert report.entropy == pytest.approx(np.log(2))
    assert all(each.bound.value == pytest.approx(0.0) for each in report.estimates)
    assert set(metrics_of(report)) <= set(METRICS)


def test_what_stands_is_compared() -> None:
    policy = policy_of(tiny_llama())
    space, tokenizer = policy.space, byte_tokenizer()
    clean = Rollout((1, 2), (3, 4, STOP), True)
    edited = Rollout((1, 2), (3, 5, space.backspace_id, 4, STOP), True)

    of_both = [answer_of_rollout(rollout, space, tokenizer) for rollout in (clean, edited)]

    assert of_both[0] == of_both[1]
    assert of_both[0].token_ids == (3, 4, STOP)
    cut = answer_of_rollout(Rollout((1, 2), (3, 4), False), space, tokenizer)
    row = TokenizedDemonstration((1, 2), (3, 4, 5, STOP), 0)
    assert answer_of_demonstration(row, space, tokenizer, 2) == cut
    whole = answer_of_demonstration(row, space, tokenizer, 4)
    assert (whole.token_ids, whole.is_finished) == ((3, 4, 5, STOP), True)


def test_rows_that_do_not_belong_together_are_refused() -> None:
    data = two_letters(np.random.default_rng(0), 0.5)
    eyes = small_eyes()
    shifted = [*data[1:], data[0]]
    with pytest.raises(ConfigError, match="to the same prompt"):
        measure(eyes, data, shifted, FOLDS, seed=0, max_positions=100)
    with pytest.raises(ConfigError, match="less than 2"):
        measure(eyes, data, data, [0] * NUM_ANSWERS, seed=0, max_positions=100)
    assert not is_measurable(data[:2], [0, 1])


def test_a_probe_of_all_answers_points_at_the_letter_that_gives_them_away() -> None:
    """Only the second letter differs; exactly, h jumps there and nowhere else."""
    rng = np.random.default_rng(1)
    letters = rng.integers(1, 4, NUM_ANSWERS)
    data = [answer(row, (int(letters[row]), 5)) for row in range(NUM_ANSWERS)]
    rollouts = [answer(row, (int(letters[row]), 6)) for row in range(NUM_ANSWERS)]
    eyes = small_eyes()
    probe = probe_for(eyes, data, rollouts, seed=0, max_positions=10**6)

    increments = []
    for each in (*data, *rollouts):
        found = token_scores(probe, eyes.features([each], 10**6))
        assert found.h.shape == (3,)
        assert found.increments.cumsum() == pytest.approx(found.h)
        increments.append(found.increments)

    of_data, of_rollouts = np.split(np.array(increments), 2)
    gap = of_data.mean(axis=0) - of_rollouts.mean(axis=0)
    assert gap.argmax() == 1
    assert gap[1] > 0
    with pytest.raises(ConfigError, match="of one"):
        token_scores(probe, eyes.features(data[:2], 10**6))


def test_an_answer_cut_by_a_limit_has_no_stop_token() -> None:
    eyes = small_eyes()
    cut = Answer((1, 2), (3, 4), False, "")
    whole = Answer((1, 2), (3, 4, STOP), True, "")

    assert eyes.features([cut, whole], 10**6).is_action.sum(dim=1).tolist() == [2, 3]
