"""SequenceMatch offline, with other mixture weights, limited rewards and a target network."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmatch.metrics import METRICS
from seqmatch.objectives import SequenceMatchConfig, needs_rollouts, sequence_match_loss
from seqmatch.objectives.dispatch import rollout_config
from seqmatch.types import StateActionValues
from tests.oracles import sequence_match as oracle
from tests.random_trajectories import Rows, arrays, gradients, rows, values
from tests.sequence_match_cases import (
    ALPHA,
    GAMMA,
    MIXTURE,
    each_estimator,
    each_option,
    every,
    minus_equation_4,
    settings,
    targets,
    with_options,
    with_targets,
)


@every
@each_option
def test_d4_paper_estimator_is_equation_4_with_a_target_network(
    name: str, options: oracle.Options
) -> None:
    data, model = rows(0), rows(1)
    ahead, other = targets(data, 0), targets(model, 1)

    config = with_options(name, options, estimator="paper")
    found = sequence_match_loss(
        with_targets(values(data), ahead), with_targets(values(model), other), config
    ).loss

    expected = minus_equation_4(name, data, model, options, ahead, other)
    assert float(found.detach()) == pytest.approx(expected, abs=1e-10)


@every
@each_estimator
@pytest.mark.parametrize("with_target", [False, True])
def test_offline_both_estimators_are_the_data_value_sum_with_full_weight(
    name: str, estimator: str, with_target: bool
) -> None:
    """What remains offline: -sum phi/alpha and the data's own value sum; of the mixture c_E r^2."""
    data = rows(0)
    ahead = targets(data, 0) if with_target else [None] * len(data)
    batch = with_targets(values(data), targets(data, 0)) if with_target else values(data)
    config = settings(name, estimator=estimator, offline=True)

    found = sequence_match_loss(batch, None, config)

    pairs = zip(arrays(data), ahead, strict=True)
    expected = [-oracle.equation_4(name, d, None, GAMMA, ALPHA, data_next=w) for d, w in pairs]
    assert float(found.loss.detach()) == pytest.approx(float(np.mean(expected)), abs=1e-10)
    assert "train/mixture_penalty" not in found.terms


def test_offline_mixture_is_pearson() -> None:
    data = values(rows(0))

    mixture = sequence_match_loss(data, None, settings(offline=True)).loss

    pearson = sequence_match_loss(data, None, settings("chi_square_pearson")).loss
    torch.testing.assert_close(mixture, pearson)


def test_offline_takes_no_rollouts() -> None:
    for more in ({}, {"estimator": "paper"}):
        config = settings(offline=True, **more)
        assert rollout_config(config) is None
        assert not needs_rollouts(config, 99, 100)
    data, model = values(rows(0)), values(rows(1))
    torch.testing.assert_close(
        sequence_match_loss(data, model, settings(offline=True)).loss,
        sequence_match_loss(data, None, settings(offline=True)).loss,
    )


@pytest.mark.parametrize("weights", [(0.25, 0.25), (0.4, 0.1), (0.0, 0.25), (0.25, 0.0)])
def test_d9_mixture_of_any_weights_is_the_supremum_over_rewards(
    weights: tuple[float, float],
) -> None:
    """sup_r E_P[r - c_E r^2] - E_Q[r + c_pi r^2] = sum (P-Q)^2 / (4 (c_E P + c_pi Q)).

    (1/4, 1/4) is the chi-square mixture, (1/4, 0) Pearson's, (0, 1/4) Neyman's; the penalties are
    read off the loss of one-step trajectories with weights P and Q.
    """
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    on_data, on_model = weights
    config = settings(mixture_data=on_data, mixture_model=on_model, alpha=1.0)

    def supremum(rewards: np.ndarray) -> float:
        """E_P[phi(r)] - E_Q[r + c_pi r^2]: d = r of one action each, V(s_1) = 0."""
        chosen = torch.tensor(rewards)[:, None]
        batch = StateActionValues(
            chosen, torch.zeros(3, 2).double(), torch.ones(3, 1, dtype=torch.bool)
        )
        data = replace(batch, weights=torch.tensor(p))
        model = replace(batch, weights=torch.tensor(q))
        terms = sequence_match_loss(data, model, config).terms
        gap = float(terms["train/data_penalty"])  # r - phi(r)
        square = float(terms["train/mixture_penalty"]) if on_model else 0.0
        return float(p @ rewards - gap - q @ rewards) - square

    best = (p - q) / (2 * (on_data * p + on_model * q))
    value = float(((p - q) ** 2 / (4 * (on_data * p + on_model * q))).sum())

    assert supremum(best) == pytest.approx(value, abs=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert supremum(best + rng.normal(0, 0.3, 3)) < value
    if weights == (0.25, 0.25):
        assert value == pytest.approx(0.4666666667, abs=1e-10)
    if weights == (0.25, 0.0):
        assert value == pytest.approx(1.8666666667, abs=1e-10)
    if weights == (0.0, 0.25):
        assert value == pytest.approx(1.12, abs=1e-10)


def test_gap_of_the_target_network_is_reported() -> None:
    data = rows(8)
    ahead = targets(data, 0)

    terms = sequence_match_loss(
        with_targets(values(data), ahead), None, settings("reverse_kl")
    ).terms

    gaps = [
        abs(own - other)
        for (logits, _), row in zip(arrays(data), ahead, strict=True)
        for own, other in zip(oracle.soft_values(logits)[1:], row, strict=True)
    ]
    assert float(terms["train/target_gap"]) == pytest.approx(np.mean(gaps))
    assert "train/target_gap" in METRICS


@every
@pytest.mark.parametrize("limit", [0.1, 0.5])
def test_limited_penalties_are_continued_once_differentiably(name: str, limit: float) -> None:
    """Beyond the limit the slope in a reward is the one at the limit: constant, and not 0."""
    config = settings(name, alpha=1.0, reward_clip=limit)

    def slopes(reward: float) -> list[float]:
        """d loss / d reward on data and on rollouts, of one action with d = reward."""
        found = []
        for on_data in (True, False) if name == MIXTURE else (True,):
            chosen = torch.tensor([[reward]], dtype=torch.float64, requires_grad=True)
            still = torch.zeros(1, 1).double()
            pair = [
                StateActionValues(q, torch.zeros(1, 2).double(), torch.ones(1, 1).bool())
                for q in ((chosen, still) if on_data else (still, chosen))
            ]
            loss = sequence_match_loss(pair[0], pair[1], config).loss
            (slope,) = torch.autograd.grad(loss, chosen)
            found.append(float(slope))
        return found

    for sign in (1.0, -1.0):
        edge = slopes(sign * limit)
        assert slopes(sign * (limit + 1e-9)) == pytest.approx(edge, abs=1e-7)
        assert slopes(sign * (limit - 1e-9)) == pytest.approx(edge, abs=1e-7)
        assert slopes(sign * 50.0) == pytest.approx(edge, abs=1e-12)
        assert slopes(sign * limit / 2) != pytest.approx(edge, abs=1e-4)


@every
@each_estimator
def test_no_gradient_goes_through_the_values_of_a_target_network(name: str, estimator: str) -> None:
    """With a target at the policy's own weights: the same loss, and finite differences of the
    oracle that hold the next values still."""
    start = torch.randn(4, dtype=torch.float64)
    data, model = rows(13, start, lengths=(3,)), rows(14, start, lengths=(2,))
    config = settings(name, alpha=0.1, estimator=estimator)
    held = [[oracle.soft_values(logits)[1:] for logits, _ in arrays(r)] for r in (data, model)]
    ahead, sampled = (
        with_targets(values(r), row) for r, row in zip((data, model), held, strict=True)
    )

    loss = sequence_match_loss(ahead, sampled, config).loss

    free = sequence_match_loss(values(data), values(model), config).loss
    torch.testing.assert_close(loss, free)
    (gradient,) = gradients(loss, data)
    expected = _slopes_with_next_values_held(name, estimator, data[0], held[0][0])
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-7)
    assert float((gradient - gradients(free, data)[0]).abs().max()) > 1e-3


def _slopes_with_next_values_held(
    name: str, estimator: str, row: tuple[torch.Tensor, list[int]], held: list[float]
) -> np.ndarray:
    """Central differences of the oracle's loss on demonstrations in each logit."""
    ((logits, labels),) = arrays([row])
    slopes = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        sides = []
        for step in (1e-5, -1e-5):
            moved = logits.copy()
            moved[place] += step
            trajectory = (moved, labels)
            j = oracle.equation_4(name, trajectory, None, GAMMA, 0.1, data_next=held)
            if estimator == "paper":  # the other half of the value sum is the model's
                j += oracle.value_sum(trajectory, GAMMA, held) / 2
            sides.append(-j)
        slopes[place] = (sides[0] - sides[1]) / 2e-5
    return slopes


@every
@each_estimator
def test_with_a_target_network_states_stand_on_their_own(name: str, estimator: str) -> None:
    """The gradient in each logit of a tabular policy, trajectories enumerated with their weights.

    w(s) p(a|s) - rho_data(s,a) phi'(alpha d) + rho_model(s,a) 2 c_pi alpha d, with w = rho_data, or
    for `paper` the mean of rho_data and rho_model; so at the fixed point the bracket is 0 in each
    state by itself. At the end: gamma^N P(s_N) (1 - phi'(alpha (1-gamma) V)), or its analogue.
    """
    table = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    table.requires_grad_()
    law, other = [0.1, 0.4, 0.3, 0.2], [0.25, 0.35, 0.25, 0.15]
    held = [[float(v) for v in row] for row in _two_steps(table.detach().logsumexp(1))]
    config = settings(name, estimator=estimator)

    batches = [
        replace(
            with_targets(values(_paths(table)), [row[1:] for row in held]),
            weights=torch.tensor(weights, dtype=torch.float64),
        )
        for weights in (law, other)
    ]
    loss = sequence_match_loss(batches[0], batches[1], config).loss

    (found,) = torch.autograd.grad(loss, table)
    expected = _local_gradient(table.detach().numpy(), law, other, config)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def _two_steps(table: torch.Tensor) -> torch.Tensor:
    """The rows of the states of the four paths: 0, then 1 or 2, then 3 to 6."""
    return table[torch.tensor([[0, 1, 3], [0, 1, 4], [0, 2, 5], [0, 2, 6]])]


def _paths(table: torch.Tensor) -> Rows:
    labels = [[0, 0], [0, 1], [1, 0], [1, 1]]  # action 2 is never demonstrated
    return [(logits, path) for logits, path in zip(_two_steps(table), labels, strict=True)]


def _local_gradient(
    table: np.ndarray, law: list[float], other: list[float], config: SequenceMatchConfig
) -> np.ndarray:
    """The bracket of the test above for every state and action, phi' by complex steps."""
    has_mixture = config.divergence == MIXTURE
    on_model = 2 * config.mixture_model if has_mixture else 0.0
    mix = 0.5 if config.estimator == "paper" else 0.0
    soft = np.log(np.exp(table).sum(1))
    policy = np.exp(table - soft[:, None])

    def slope(reward: float) -> float:
        return float(np.imag(oracle.PHI[config.divergence](complex(reward, 1e-30))) / 1e-30)

    def measure(weights: list[float]) -> np.ndarray:
        rho = np.zeros((3, 2))
        rho[0] = weights[0] + weights[1], weights[2] + weights[3]
        rho[1], rho[2] = GAMMA * np.array(weights[:2]), GAMMA * np.array(weights[2:])
        return rho

    data, model = measure(law), measure(other)
    expected = np.zeros_like(table)
    for state, following in enumerate(([1, 2], [3, 4], [5, 6])):
        weight = (1 - mix) * data[state].sum() + mix * model[state].sum()
        expected[state] = weight * policy[state]
        for action, ahead in enumerate(following):
            reward = ALPHA * (table[state, action] - GAMMA * soft[ahead])
            expected[state, action] -= data[state, action] * slope(reward)
            expected[state, action] += model[state, action] * on_model * reward
    for end in range(4):
        reward = ALPHA * (1 - GAMMA) * soft[3 + end]
        here = (1 - mix) * law[end] + mix * other[end] - law[end] * slope(reward)
        here += other[end] * on_model * reward
        expected[3 + end] = GAMMA**2 * here * policy[3 + end]
    return expected
