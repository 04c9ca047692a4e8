"""Evaluation: numbers along trajectories, the critic's features, and the measures of answers."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch

from seqmatch.action_space import ActionSpace
from seqmatch.config import EvaluationConfig
from seqmatch.decoding.generation import Rollout
from seqmatch.divergence_estimate import OccupancySample, best_coefficients, bound_at
from seqmatch.evaluation import (
    HeldOutRows,
    evaluate,
    likelihood_metrics,
    rollout_metrics,
)
from seqmatch.gradients import accumulate_gradients
from seqmatch.metrics import METRICS
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.objectives.dispatch import RewardScale, reward_scale
from seqmatch.reporting import Trace
from seqmatch.trajectory_values import (
    TrajectoryValues,
    occupancy_sample,
    standing_times,
    trajectory_values,
)
from seqmatch.types import Demonstration, TokenizedDemonstration, Trajectory
from tests.tiny_models import policy_of, tiny_llama

BACKSPACE = 11
SPACE = ActionSpace(
    11, eos_id=10, pad_id=10, bos_id=None, has_backspace=True, unpushable=frozenset()
)
PLAIN = Trajectory((1, 2), (3, 4, 10), (3, 4, 10))
EDITED = Trajectory((1, 2), (3, 4, BACKSPACE, 4, 10), (3, 5, BACKSPACE, 4, 10))


def test_values_are_those_of_the_states_one_by_one() -> None:
    """Oracle: a plain forward pass on each state's tokens, in float64."""
    policy = policy_of(tiny_llama()).double()
    assert policy.backspace_row is not None
    states = [(1, 2), (1, 2, 3), (1, 2, 3, 5), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 10)]
    expected_q, expected_v = [], []
    for time, state in enumerate(states):
        with torch.no_grad():
            hidden = policy.hidden_states(torch.tensor([state]))[0, -1]
            logits = torch.cat([policy.head_weight @ hidden, policy.backspace_row[None] @ hidden])
        logits = logits if len(state) > 2 else logits[:-1]
        expected_v.append(float(logits.logsumexp(0)))
        if time < len(EDITED.labels):
            expected_q.append(float(logits[EDITED.labels[time]]))

    (found,) = trajectory_values(policy, [EDITED], 10**6)

    assert found.chosen_q == pytest.approx(expected_q)
    assert found.values == pytest.approx(expected_v)
    assert not any(parameter.grad is not None for parameter in policy.parameters())


def test_small_passes_give_the_same_numbers() -> None:
    policy = policy_of(tiny_llama()).double()
    rows = [PLAIN, EDITED, PLAIN, EDITED, EDITED]

    whole, cut = (trajectory_values(policy, rows, positions) for positions in (10**6, 8))

    assert [each.trajectory for each in cut] == rows
    for one, other in zip(whole, cut, strict=True):
        assert one.chosen_q == pytest.approx(other.chosen_q)
        assert one.values == pytest.approx(other.values)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_gradients_do_not_depend_on_the_number_of_passes(beta: float) -> None:
    policy = policy_of(tiny_llama()).double()
    data, rollouts = [PLAIN, EDITED, EDITED, PLAIN, PLAIN], [EDITED, PLAIN, EDITED, EDITED, PLAIN]
    found = []
    for max_positions in (10**6, 20):
        policy.zero_grad()
        batch = accumulate_gradients(
            policy,
            SequenceMatchConfig(alpha=0.5),
            data,
            rollouts if beta < 1.0 else [],
            beta=beta,
            max_positions=max_positions,
        )
        gradients = [
            parameter.grad.clone()
            for parameter in policy.parameters()
            if parameter.grad is not None
        ]
        found.append((batch, gradients))

    (whole, one), (cut, two) = found
    assert whole.loss == pytest.approx(cut.loss)
    assert whole.terms["train/nll"] == pytest.approx(cut.terms["train/nll"])
    assert whole.num_positions == cut.num_positions
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one, two, strict=True))
    assert set(whole.terms) <= set(METRICS)


def _values(trajectory: Trajectory, q: list[float], v: list[float]) -> TrajectoryValues:
    return TrajectoryValues(trajectory, np.array(q), np.array(v))


def test_likelihood_metrics_are_over_tokens_and_rows() -> None:
    first = _values(Trajectory((1,), (2, 10), (2, 10)), [1.0, 2.0], [1.5, 2.5, 4.0])
    second = _values(Trajectory((1,), (10,), (10,)), [0.0], [3.0, 0.0])

    found = likelihood_metrics([first, second], discount=0.5)

    assert found["eval/nll"] == pytest.approx((0.5 + 0.5 + 3.0) / 3)
    assert found["eval/td"] == pytest.approx((abs(1 - 1.25) + abs(2 - 2.0) + 0.0) / 3)
    assert found["eval/value_start"] == pytest.approx((1.5 + 3.0) / 2)
    assert found["eval/value_end"] == pytest.approx((4.0 + 0.0) / 2)


def test_the_critic_sees_rewards_and_the_likelihood_of_what_stands() -> None:
    found = _values(EDITED, [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 5.0, 3.0, 6.0, 8.0])

    sample = occupancy_sample([found, found], SPACE, folds=[0, 1], alpha=0.1, discount=0.5)

    differences = [1 - 1.5, 2 - 2.5, 3 - 1.5, 4 - 3.0, 5 - 4.0]
    assert sample.features[:5, 0].tolist() == [1.0] * 5
    assert sample.features[:5, 1] == pytest.approx([0.1 * each for each in differences])
    log_probs_standing = (1 - 2) + (4 - 3) + (5 - 6)
    assert sample.features[5] == pytest.approx([0, 0, 1, 0.1 * 0.5 * 8.0, log_probs_standing])
    assert sample.weights[:6] == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125])
    assert sample.weights[:6].sum() == pytest.approx(1.0)
    assert sample.fold.tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize(
    ("pushes", "times"),
    [((3, 4, 10), [0, 1, 2]), ((3, 5, 11, 4, 10), [0, 3, 4]), ((11, 3, 11, 11, 10), [4])],
)
def test_standing_times_are_those_never_taken_back(
    pushes: tuple[int, ...], times: list[int]
) -> None:
    assert standing_times(pushes, SPACE) == times


LETTERS = (0, 1)
STOP = 2


def _language(
    probabilities: dict[tuple[int, ...], float],
) -> Iterator[tuple[tuple[int, ...], float]]:
    """All strings over two letters with at most two of them, each with its probability."""
    for length in range(3):
        for letters in product(LETTERS, repeat=length):
            probability = 1.0
            for at in range(length):
                stop = probabilities[letters[:at]]
                probability *= (1 - stop) * 0.5
            yield letters, probability * (probabilities[letters] if length < 2 else 1.0)


def test_on_a_tiny_language_the_bound_is_below_the_enumerated_divergence() -> None:
    """Exact: all strings, occupancy weights, the sum of (P - Q)^2 / (P + Q) over pairs."""
    rng = np.random.default_rng(0)
    prefixes = [letters for length in range(2) for letters in product(LETTERS, repeat=length)]
    discount = 0.7
    laws = [dict(zip(prefixes, rng.uniform(0.1, 0.9, len(prefixes)), strict=True)) for _ in (0, 1)]
    occupancies: list[dict[tuple[object, ...], float]] = [{}, {}]
    for occupancy, law in zip(occupancies, laws, strict=True):
        for letters, probability in _language(law):
            actions = (*letters, STOP)
            for time, action in enumerate(actions):
                pair = (letters[:time], action)
                weight = probability * (1 - discount) * discount**time
                occupancy[pair] = occupancy.get(pair, 0.0) + weight
            occupancy[letters, "absorbed"] = probability * discount ** len(actions)
    pairs = sorted(occupancies[0], key=str)
    p, q = (np.array([each[pair] for pair in pairs]) for each in occupancies)
    exact = float(((p - q) ** 2 / (p + q)).sum())
    fold = np.zeros(len(pairs), dtype=int)

    def bound(features: np.ndarray) -> float:
        data, policy = OccupancySample(features, p, fold), OccupancySample(features, q, fold)
        return bound_at(best_coefficients(data, policy), data, policy)

    assert p.sum() == pytest.approx(1.0)
    assert q.sum() == pytest.approx(1.0)
    for _ in range(20):
        assert 0.0 <= bound(rng.normal(size=(len(pairs), 3))) <= exact + 1e-12
    assert bound(np.stack([np.ones(len(pairs)), 2 * (p - q) / (p + q)], axis=1)) == pytest.approx(
        exact
    )


def _trace(text: str, is_finished: bool = True) -> Trace:
    return Trace("p", (), (), text, 0, is_finished, reference="ab")


def test_answers_match_only_whole_and_finished() -> None:
    rollouts = [
        Rollout((1,), (3, 4, 10), True),
        Rollout((1,), (3, 5, BACKSPACE, 4, 10), True),
        Rollout((1,), (3, 4), False),
        Rollout((1,), (10,), True),
    ]
    traces = [_trace("ab"), _trace("ab"), _trace("ab", is_finished=False), _trace("")]

    found = rollout_metrics(rollouts, traces, BACKSPACE)

    assert found == {
        "eval/exact_match": 0.5,
        "rollout/backspace_rate": pytest.approx(1 / 11),
        "rollout/length": pytest.approx((3 + 3 + 2 + 1) / 4),
        "rollout/truncated": 0.25,
    }


def _rows(count: int) -> HeldOutRows:
    return HeldOutRows(
        tuple(Demonstration("p", "q", f"{n}") for n in range(count)),
        tuple(TokenizedDemonstration((1, 2), (3, 4, 10), n) for n in range(count)),
    )


def test_evaluation_repeats_and_reports_registered_metrics() -> None:
    policy = policy_of(tiny_llama())
    settings = EvaluationConfig(max_new_tokens=4)

    one, two = (
        evaluate(policy, _rows(6), settings, RewardScale(0.1, 0.9), max_positions=100, seed=3)
        for _ in range(2)
    )

    assert one == two
    assert len(one.traces) == 6
    assert set(one.metrics) <= set(METRICS)
    assert {"eval/divergence", "eval/exact_match", "eval/nll"} <= set(one.metrics)


def test_an_evaluation_that_is_stopped_has_the_likelihood_alone() -> None:
    policy = policy_of(tiny_llama())

    found = evaluate(
        policy,
        _rows(2),
        EvaluationConfig(max_new_tokens=4),
        RewardScale(0.1, 0.9),
        max_positions=100,
        seed=3,
        should_stop=lambda: True,
    )

    assert found.traces == ()
    assert set(found.metrics) == {"eval/nll", "eval/td", "eval/value_start", "eval/value_end"}


def test_first_rows_are_the_same_rows() -> None:
    assert _rows(6).first(2) == _rows(2)
    assert _rows(2).first(9) == _rows(2)


def test_rows_of_one_prompt_are_in_one_half_of_the_divergence_estimate() -> None:
    """Else the critic would be valued on the very prompts that it was fitted on."""
    groups = ["a", "b", "a", "c", "c", "d", "b"]
    rows = HeldOutRows(
        tuple(Demonstration("p", "q", group) for group in groups), _rows(len(groups)).tokenized
    )

    assert rows.folds() == [0, 1, 0, 0, 0, 1, 1]
    assert _rows(4).folds() == [0, 1, 0, 1]


def test_sft_is_measured_on_the_axes_of_sequence_match() -> None:
    assert reward_scale(SFTConfig()) == reward_scale(SequenceMatchConfig())
    assert reward_scale(SequenceMatchConfig(alpha=0.3, discount=0.9)) == RewardScale(0.3, 0.9)
