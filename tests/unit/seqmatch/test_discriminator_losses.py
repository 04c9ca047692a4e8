"""Losses of discriminators: where they are least, and what they are worth there."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from seqmatch.discriminators import (
    WeightedScores,
    accuracy,
    at_stop,
    auc,
    binary_cross_entropy,
    data_potential,
    token_weights,
    trajectory_weights,
    variational_bound,
    variational_loss,
)
from seqmatch.divergences import Divergence, divergences_of, get_divergence
from seqmatch.errors import ConfigError
from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.exact.languages import parse_language
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import (
    WeightedTrajectories,
    enumerate_answers,
    enumerate_demonstrations,
)
from tests.oracles import f_divergences
from tests.two_measures import TABLE, TwoMeasures, minimiser, two_measures

MEMBERS = [
    *(entry for entry in divergences_of("adversarial").values() if not entry.has_order),
    *(get_divergence("alpha", order) for order in (-1.0, 0.0, 0.3, 0.5, 1.0, 2.0)),
]
SMOOTH = [entry for entry in MEMBERS if entry.second_derivative is not None]


def named(entry: Divergence) -> str:
    return entry.name if entry.order is None else f"{entry.name} {entry.order:g}"


def sides(h: Tensor, data: Tensor, model: Tensor) -> tuple[WeightedScores, WeightedScores]:
    return WeightedScores(h, data), WeightedScores(h, model)


@pytest.fixture(scope="module")
def measures() -> TwoMeasures:
    return two_measures()


@pytest.fixture(scope="module")
def learnt(measures: TwoMeasures) -> Tensor:
    """The table of h at which the cross entropy is least."""
    return minimiser(
        lambda h: binary_cross_entropy(*sides(h, measures.data, measures.model)),
        torch.zeros_like(measures.data),
    )


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two measures on nine points, log ratios up to about 3."""
    logits = torch.randn(2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    data, model = logits.softmax(-1)
    return data, model


def test_d12_cross_entropy_is_least_at_the_log_ratio(measures: TwoMeasures, learnt: Tensor) -> None:
    both = measures.data > 0

    expected = (measures.data[both] / measures.model[both]).log()

    assert torch.equal(both, measures.model > 0)
    assert float((learnt[both] - expected).abs().max()) < 1e-6


def test_d12_its_value_there_is_twice_js_minus_two_log_two(
    measures: TwoMeasures, learnt: Tensor
) -> None:
    both = measures.data > 0
    data, model, h = measures.data[both], measures.model[both], learnt[both]

    value = (data * logsigmoid(h)).sum() + (model * logsigmoid(-h)).sum()
    loss = binary_cross_entropy(*sides(learnt, measures.data, measures.model))

    # The oracle's "jensen_shannon" is twice JS.
    expected = f_divergences.divergence("jensen_shannon", data.numpy(), model.numpy())
    assert float(value) == pytest.approx(expected - 2 * math.log(2), abs=1e-12)
    assert float(loss) == pytest.approx(-float(value), abs=1e-12)


def test_d12_increments_are_log_ratios_of_single_actions(
    measures: TwoMeasures, learnt: Tensor
) -> None:
    chain = measures.chain
    state = torch.arange(1, chain.num_states)
    before, token = chain.parent[state], chain.last_token[state]
    is_second = (before > 0) & (measures.data[before, token] > 0)
    state, before, token = before[is_second], chain.parent[before[is_second]], token[is_second]

    increments = learnt[state, token] - learnt[before, chain.last_token[state]]

    ratio = measures.data_log_probs - measures.model_log_probs
    assert len(state) > 4
    torch.testing.assert_close(increments, ratio[state, token], atol=1e-6, rtol=0)


def test_absorbing_states_have_the_ratio_of_the_action_that_enters_them(
    measures: TwoMeasures, learnt: Tensor
) -> None:
    chain = measures.chain
    ends = chain.terminal[measures.data[chain.terminal, 0] > 0]

    torch.testing.assert_close(learnt[ends, 0], learnt[chain.parent[ends], 0], atol=1e-6, rtol=0)


def rows_of(measures: TwoMeasures, log_probs: Tensor) -> WeightedTrajectories:
    return enumerate_answers(measures.chain, log_probs)


def folded(chain: TokenChain, occupancy: Tensor) -> Tensor:
    """The occupancy with the absorbed mass on the action that leads to it."""
    expected = occupancy.clone()
    expected[chain.parent[chain.terminal], 0] += occupancy[chain.terminal, 0]
    expected[chain.terminal] = 0.0
    return expected


def summed(rows: WeightedTrajectories, like: Tensor, discount: float) -> Tensor:
    """The rows' token weights by state and action."""
    weights = token_weights(rows.is_action, discount, rows.weights)
    total = torch.zeros_like(like)
    return total.index_put_((rows.states[:, :-1], rows.labels), weights, accumulate=True)


@pytest.mark.parametrize("side", ["data", "model"])
def test_token_weights_of_enumerated_answers_are_the_occupancy(
    measures: TwoMeasures, side: str
) -> None:
    rows = rows_of(measures, getattr(measures, f"{side}_log_probs"))
    occupancy = getattr(measures, side)

    found = summed(rows, occupancy, measures.demonstrator.discount)

    torch.testing.assert_close(found, folded(measures.chain, occupancy), atol=1e-14, rtol=0)
    assert found.sum().item() == pytest.approx(1.0)


def test_token_weights_of_demonstrations_with_mistakes_are_the_occupancy() -> None:
    language = parse_language(TABLE)
    chain = TokenChain.of(language, backspace=True)
    demonstrator = Demonstrator.of(language, chain)
    occupancy = demonstrator.occupancy()

    found = summed(enumerate_demonstrations(demonstrator), occupancy, language.discount)

    assert occupancy[:, chain.backspace].sum() > 0.01
    torch.testing.assert_close(found, folded(chain, occupancy), atol=1e-14, rtol=0)


def test_both_levels_of_the_cross_entropy_on_answers(measures: TwoMeasures, learnt: Tensor) -> None:
    data_rows = rows_of(measures, measures.data_log_probs)
    model_rows = rows_of(measures, measures.model_log_probs)
    discount = measures.demonstrator.discount

    def scored(rows: WeightedTrajectories, weights: Tensor) -> WeightedScores:
        h = learnt[rows.states[:, :-1], rows.labels]
        return WeightedScores(h.where(rows.is_action, 0.0), weights)

    by_token = [
        scored(rows, token_weights(rows.is_action, discount, rows.weights))
        for rows in (data_rows, model_rows)
    ]
    by_answer = [
        scored(rows, trajectory_weights(rows.is_action, rows.weights))
        for rows in (data_rows, model_rows)
    ]

    expected = divergence_value("jensen_shannon", measures.data, measures.model)
    loss = binary_cross_entropy(*by_token)
    assert float(loss) == pytest.approx(2 * math.log(2) - float(expected), abs=1e-10)
    # At the stop token the table is the log ratio of whole answers, so it is the optimum there too.
    of_answers = divergence_value("jensen_shannon", data_rows.weights, model_rows.weights)
    loss = binary_cross_entropy(*by_answer)
    assert float(loss) == pytest.approx(2 * math.log(2) - float(of_answers), abs=1e-10)


@pytest.mark.parametrize("entry", SMOOTH, ids=named)
def test_variational_losses_are_least_at_the_log_ratio_and_worth_the_divergence(
    entry: Divergence, measures: TwoMeasures
) -> None:
    both = measures.data > 0
    data, model = measures.data[both], measures.model[both]

    h = minimiser(lambda h: variational_loss(entry, *sides(h, data, model)), torch.zeros_like(data))

    torch.testing.assert_close(h, (data / model).log(), atol=1e-6, rtol=0)
    order = 0.5 if entry.order is None else entry.order
    expected = f_divergences.divergence(entry.name, data.numpy(), model.numpy(), order)
    loss = variational_loss(entry, *sides(h, data, model))
    assert float(-loss) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("entry", MEMBERS, ids=named)
def test_bound_is_the_divergence_at_the_log_ratio_and_less_elsewhere(
    entry: Divergence, pair: tuple[Tensor, Tensor]
) -> None:
    data, model = pair
    best = (data / model).log()
    order = 0.5 if entry.order is None else entry.order
    exact = f_divergences.divergence(entry.name, data.numpy(), model.numpy(), order)

    assert float(variational_bound(entry, *sides(best, data, model))) == pytest.approx(exact)
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        other = best + torch.randn(best.shape, generator=generator, dtype=best.dtype)
        assert float(variational_bound(entry, *sides(other, data, model))) <= exact + 1e-12


@pytest.mark.parametrize("entry", MEMBERS, ids=named)
def test_potential_is_the_slope_of_the_papers_generator(entry: Divergence) -> None:
    h = np.linspace(-6.0, 6.0, 25)
    h = h[h != 0.0]  # the corner of total variation
    order = 0.5 if entry.order is None else entry.order
    u = np.exp(-h.astype(np.longdouble))
    value = f_divergences.generator(entry.name, u, order)
    slope = f_divergences.generator_prime(entry.name, u, order)

    found = data_potential(entry, torch.tensor(h))

    # f_B(v) = v f(1/v), so f_B'(v) = f(u) - u f'(u).
    np.testing.assert_allclose(found.numpy(), (value - u * slope).astype(float), atol=1e-11)


EXCHANGED = {
    "forward_kl": "reverse_kl",
    "reverse_kl": "forward_kl",
    "chi_square_pearson": "chi_square_neyman",
    "chi_square_neyman": "chi_square_pearson",
}
"""The divergence with model and data exchanged; the others are their own, but for the order."""


@pytest.mark.parametrize(("farthest", "tolerance"), [(10.0, 1e-11), (30.0, 1e-4)])
@pytest.mark.parametrize("entry", MEMBERS, ids=named)
def test_potential_is_minus_the_reward_of_the_exchanged_divergence_at_minus_h(
    entry: Divergence, farthest: float, tolerance: float
) -> None:
    """T = f_B' and f_B generates the exchanged divergence, whose R is -f_B'(e^{-h})."""
    h = torch.linspace(-farthest, farthest, 12_000, dtype=torch.float64)
    order = None if entry.order is None else 1.0 - entry.order
    expected = -get_divergence(EXCHANGED.get(entry.name, entry.name), order).policy_reward(-h)

    found = data_potential(entry, h)

    error = (found - expected).abs() / expected.abs().clamp(min=1.0)
    assert error.max().item() <= tolerance


@pytest.mark.parametrize("entry", SMOOTH, ids=named)
def test_gradient_of_the_potential_is_that_of_its_value(entry: Divergence) -> None:
    h = torch.linspace(-5.0, 5.0, 21, dtype=torch.float64, requires_grad=True)

    (gradient,) = torch.autograd.grad(data_potential(entry, h).sum(), h)

    step = 1e-6
    around = [data_potential(entry, h.detach() + each) for each in (step, -step)]
    expected = (around[0] - around[1]) / (2 * step)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("entry", SMOOTH, ids=named)
def test_scores_that_are_far_off_come_back(entry: Divergence) -> None:
    """Float32, scores of 100 nats on the wrong sides: finite, and every gradient points home."""
    data = WeightedScores(
        torch.tensor([-100.0, -12.0], requires_grad=True), torch.tensor([0.5, 0.5])
    )
    rollouts = WeightedScores(torch.tensor([100.0, 12.0], requires_grad=True), data.weights)

    loss = variational_loss(entry, data, rollouts)
    of_data, of_rollouts = torch.autograd.grad(loss, [data.h, rollouts.h])

    assert math.isfinite(loss.item())
    assert bool((of_data < 0).all() and (of_rollouts > 0).all())
    assert of_data[0] == of_data[1]


def test_a_corner_is_refused_with_the_way_out() -> None:
    total_variation = get_divergence("total_variation")
    side = WeightedScores(torch.zeros(1), torch.ones(1))

    with pytest.raises(ConfigError, match=r"total_variation has no gradient.*cross entropy"):
        variational_loss(total_variation, side, side)


@pytest.mark.parametrize("smoothed", ["both", "data"])
@pytest.mark.parametrize("amount", [0.05, 0.2])
def test_label_smoothing_shifts_the_optimum_as_computed_by_hand(
    smoothed: str, amount: float, pair: tuple[Tensor, Tensor]
) -> None:
    data, model = pair

    h = minimiser(
        lambda h: binary_cross_entropy(
            *sides(h, data, model),
            label_smoothing=amount,
            smoothed="both" if smoothed == "both" else "data",
        ),
        torch.zeros_like(data),
    )

    keeps, gives = 1 - amount, amount
    if smoothed == "both":
        expected = ((keeps * data + gives * model) / (gives * data + keeps * model)).log()
    else:
        expected = (keeps * data / (gives * data + model)).log()
    torch.testing.assert_close(h, expected, atol=1e-6, rtol=0)
    assert float(h.abs().max()) < math.log(keeps / gives) or smoothed == "data"


@pytest.mark.parametrize("amount", [-0.1, 0.5])
def test_smoothing_that_forgets_the_labels_is_refused(amount: float) -> None:
    side = WeightedScores(torch.zeros(1), torch.ones(1))

    with pytest.raises(ConfigError, match="label smoothing is"):
        binary_cross_entropy(side, side, label_smoothing=amount)


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_token_weights_need_a_discount_below_one(discount: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        token_weights(torch.ones(1, 2, dtype=torch.bool), discount)


def test_weights_and_the_value_at_the_stop_by_hand() -> None:
    is_action = torch.tensor([[True, True, True], [True, False, False]])
    h = torch.tensor([[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]])

    tokens = token_weights(is_action, 0.5)
    answers = trajectory_weights(is_action)

    torch.testing.assert_close(tokens, torch.tensor([[0.25, 0.125, 0.125], [0.5, 0, 0]]))
    torch.testing.assert_close(answers, torch.tensor([[0, 0, 0.5], [0.5, 0, 0]]))
    assert at_stop(h, is_action).tolist() == [3.0, 4.0]


def test_accuracy_and_auc_by_hand() -> None:
    data = WeightedScores(torch.tensor([2.0, 0.5, -1.0, 0.0]), torch.tensor([0.4, 0.3, 0.2, 0.1]))
    rollouts = WeightedScores(torch.tensor([0.5, -2.0]), torch.tensor([0.25, 0.75]))

    # Right: 0.4 + 0.3 and half of 0.1 of the data, 0.75 of the rollouts.
    assert float(accuracy(data, rollouts)) == pytest.approx((0.75 + 0.75) / 2)
    # Each demonstration's share of rollouts below it; the second one ties with a quarter of them.
    expected = 0.4 * 1.0 + 0.3 * (0.75 + 0.125) + 0.2 * 0.75 + 0.1 * 0.75
    assert float(auc(data, rollouts)) == pytest.approx(expected)
