"""The likelihood family against exact enumeration and the papers' formulas written out."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from seqmatch.errors import ConfigError
from seqmatch.objectives import sft_loss
from seqmatch.objectives.dft import dft_loss
from seqmatch.objectives.gem import gem_loss
from seqmatch.objectives.weighted_likelihood import (
    Weights,
    forward_kl_occupancy_loss,
    token_weights,
)
from seqmatch.types import LossOutput, StateActionValues
from tests.oracles import likelihood_family as oracle
from tests.random_trajectories import Rows, arrays, gradients, rows, values
from tests.requested_values import requested_values

GAMMA, LONGEST, VOCAB = 0.9, 4, 3
Law = Mapping[oracle.Prefix, oracle.Array]

every_weights = pytest.mark.parametrize("name", get_args(Weights))


class Table(torch.nn.Module):
    """A tabular policy over a small language: one row of logits a prefix, and a terminal one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.prefixes = oracle.prefixes(VOCAB, LONGEST)
        generator = torch.Generator().manual_seed(seed)
        shape = (len(self.prefixes) + 1, VOCAB)
        self.logits = torch.nn.Parameter(
            torch.randn(shape, dtype=torch.float64, generator=generator)
        )

    def law(self, logits: torch.Tensor | None = None) -> Law:
        """The next token's law by prefix; at the longest ones the stop token is all there is."""
        shown = (self.logits if logits is None else logits).detach().numpy()
        found = {}
        for prefix, row in zip(self.prefixes, shown, strict=False):
            only_stop = len(prefix) == LONGEST - 1
            found[prefix] = np.eye(VOCAB)[0] if only_stop else oracle.softmax(row)
        return found

    def along(self, law: Law, logits: torch.Tensor | None = None) -> StateActionValues:
        """Values along every answer of a language, weighted by its probability."""
        table = self.logits if logits is None else logits
        forced = torch.tensor([len(prefix) == LONGEST - 1 for prefix in self.prefixes])
        never = torch.tensor([False, True, True])
        banned = torch.zeros_like(table, dtype=torch.bool)
        banned[:-1] = forced[:, None] & never
        table = table.masked_fill(banned, -torch.inf)
        place = {prefix: number for number, prefix in enumerate(self.prefixes)}
        data, weights = [], []
        for answer, probability in oracle.answers(law, LONGEST):
            if probability > 0:
                states = [place[answer[:t]] for t in range(len(answer))]
                data.append((table[[*states, -1]], list(answer)))
                weights.append(probability)
        return replace(values(data), weights=torch.tensor(weights, dtype=torch.float64))


Loss = Callable[[StateActionValues], LossOutput]


def _loss(name: str) -> Loss:
    if name == "sft":
        return sft_loss
    weights: Weights = name  # type: ignore[assignment]  # the parametrisation says so
    return lambda data: forward_kl_occupancy_loss(data, weights, GAMMA)


@pytest.mark.parametrize(
    ("name", "divergence"),
    [
        ("gamma", lambda p, q: oracle.occupancy_kl(p, q, LONGEST, GAMMA)),
        ("count", lambda p, q: oracle.unnormalised_kl(p, q, LONGEST)),
        ("sft", lambda p, q: oracle.answer_kl(p, q, LONGEST)),
    ],
)
def test_d10_loss_is_the_forward_kl_that_it_stands_for(
    name: str, divergence: Callable[[Law, Law], float]
) -> None:
    """D10 by enumeration: the value up to the data's entropy, and the gradient by differences."""
    demonstrator, policy = Table(0), Table(1)
    data, loss = demonstrator.law(), _loss(name)

    found = loss(policy.along(data)).loss
    entropy = loss(demonstrator.along(data)).loss

    assert float((found - entropy).detach()) == pytest.approx(
        divergence(data, policy.law()), abs=1e-12
    )
    (gradient,) = torch.autograd.grad(found, policy.logits)
    for place in range(0, gradient.numel(), 5):
        step = torch.zeros(gradient.numel(), dtype=torch.float64)
        step[place] = 1e-5
        step = step.view_as(gradient)
        up, down = (divergence(data, policy.law(policy.logits + s)) for s in (step, -step))
        assert float(gradient.flatten()[place]) == pytest.approx((up - down) / 2e-5, abs=1e-9)


@pytest.mark.parametrize("name", ["sft", "gamma", "count", "count_norm", "paper"])
def test_d10_only_weights_of_time_alone_are_least_at_the_data(name: str) -> None:
    """Weights that know how long the answer will be prefer longer ones: the slope at the data.

    Un-normalised measures lack the difference of masses: with E_model[N] added, the generalised
    KL of `count` is least at the data.
    """
    table = Table(0)
    law = table.law()

    (slope,) = torch.autograd.grad(_loss(name)(table.along(law)).loss, table.logits)

    if name in ("sft", "gamma"):
        assert float(slope.abs().max()) < 1e-12
        return
    assert float(slope[1, 0]) > 1e-3  # to stop at the second token shall be less likely
    if name == "count":
        by_hand = torch.zeros_like(slope)
        for place in range(slope.numel()):
            step = torch.zeros(slope.numel(), dtype=torch.float64)
            step[place] = 1e-5
            ends = (table.law(table.logits + s * step.view_as(slope)) for s in (1, -1))
            up, down = (oracle.expected_length(each, LONGEST) for each in ends)
            by_hand.view(-1)[place] = (up - down) / 2e-5
        torch.testing.assert_close(slope, -by_hand, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("name", "minimiser"),
    [
        ("sft", 0.5),
        ("gamma", 0.5),
        ("count", 0.25),
        ("count_norm", math.log(2) / 1.5),
        ("paper", 0.0),
    ],
)
def test_d18_minimiser_on_the_geometric_language(name: str, minimiser: float) -> None:
    """P(stop) = 1/2, one logit for all states: stop over all weights, W_stop / W.

    Stop tokens have the weights E[1], E[gamma^(N-1)], E[1/N] = ln 2 or 0, all tokens together
    E[N], E[(1 - gamma^N)/(1 - gamma)], E[N(N+1)/2] = 4, E[(N+1)/2] = 3/2 or E[N/2].
    """
    longest = 60
    labels = [[1] * (n - 1) + [0] for n in range(1, longest + 1)]
    weights = torch.tensor([0.5**n for n in range(1, longest + 1)], dtype=torch.float64)

    def stop_of(logit: torch.Tensor) -> torch.Tensor:
        state = torch.stack([logit, -logit])
        data = values([(state.expand(len(y) + 1, 2), y) for y in labels])
        return _loss(name)(replace(data, weights=weights)).loss

    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    for _ in range(30):  # Newton's method on a convex function of one variable
        (slope,) = torch.autograd.grad(stop_of(logit), logit, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, logit)
        with torch.no_grad():
            logit.sub_((slope / curvature).clamp(-1.0, 1.0))

    assert float(torch.sigmoid(2 * logit)) == pytest.approx(minimiser, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("gamma", 0.5, 0.5), ("count", 0.25, 0.25), ("count_norm", 0.5, 0.26)],
)
def test_minimiser_on_the_geometric_language_where_places_differ(
    name: Weights, first: float, last: float
) -> None:
    """A logit for each place: stop over all weights at that place, ever less or the same."""
    lengths = range(1, 61)
    stop, onwards = np.zeros(60), np.zeros(60)
    for n in lengths:
        for t in range(n):
            (stop if t == n - 1 else onwards)[t] += 0.5**n * oracle.weight(name, t, n, GAMMA)
    share = (stop / (stop + onwards))[:41]
    logits = torch.tensor(np.log([*zip(stop, np.maximum(onwards, 1e-300), strict=True), (1, 1)]))
    logits.requires_grad_()
    data = values([(logits[: n + 1], [1] * (n - 1) + [0]) for n in lengths])
    weights = torch.tensor([0.5**n for n in lengths], dtype=torch.float64)

    loss = forward_kl_occupancy_loss(replace(data, weights=weights), name, GAMMA).loss

    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient.abs().max()) < 1e-15
    assert (share[0], share[40]) == pytest.approx((first, last), abs=5e-3)
    assert np.all(np.diff(share) <= 1e-5)  # the longest answers are cut off


@every_weights
def test_weights_and_loss_equal_the_written_formula(name: Weights) -> None:
    """An answer of one token is among them: `paper` gives it the weight 0."""
    data = rows(3, lengths=(1, 4, 7))
    batch = values(data)

    found = token_weights(batch, name, GAMMA)
    loss = forward_kl_occupancy_loss(batch, name, GAMMA).loss

    for row, (_, labels) in enumerate(data):
        wanted = [oracle.weight(name, t, len(labels), GAMMA) for t in range(len(labels))]
        np.testing.assert_allclose(found[row, : len(labels)], wanted, atol=1e-15)
        assert not found[row, len(labels) :].any()
    if name == "paper":
        assert [float(found[row, len(y) - 1]) for row, (_, y) in enumerate(data)] == [0.0] * 3
    expected = np.mean([oracle.weighted_nll(row, name, GAMMA) for row in arrays(data)])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-12)


def test_dft_equals_the_written_loss_and_gradient() -> None:
    data = rows(4)

    loss = dft_loss(values(data)).loss

    wanted = [oracle.dft(row) for row in arrays(data)]
    expected = np.mean([value for value, _ in wanted])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-12)
    for got, (_, gradient) in zip(gradients(loss, data), wanted, strict=True):
        np.testing.assert_allclose(got, gradient / len(data), atol=1e-12)


def test_dft_climbs_the_probability_of_the_labels() -> None:
    """Its gradient is that of -sum p(y_t|s_t), so in one state the most frequent action takes all.

    From the law itself, where likelihood would stay, gradient descent goes to the mode.
    """
    data = rows(5)
    likely = [logits.softmax(1)[range(len(labels)), labels].sum() for logits, labels in data]
    probability = torch.stack(likely).mean()
    got = gradients(dft_loss(values(data)).loss, data)
    for one, other in zip(got, gradients(probability, data), strict=True):
        torch.testing.assert_close(one, -other)

    law = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    logits = law.log().requires_grad_()
    for _ in range(600):
        (slope,) = torch.autograd.grad(dft_loss(_bandit(logits, law)).loss, logits)
        with torch.no_grad():
            logits.sub_(slope, alpha=5.0)
    assert float(logits.softmax(0)[0]) > 0.99


def _bandit(
    logits: torch.Tensor, law: torch.Tensor, beta: float | None = None
) -> StateActionValues:
    """One state and one action: every action once, weighted by the demonstrations' law."""
    terminal = torch.zeros_like(logits)
    table = torch.stack([logits, terminal])
    data = replace(values([(table, [action]) for action in range(len(law))]), weights=law)
    if beta is None:
        return data
    tempered = (beta * (logits / beta).logsumexp(0)).expand(len(law), 1)
    return replace(data, tempered_values=tempered)


@pytest.mark.parametrize("beta", [0.3, 0.7, 1.0])
def test_gem_equals_the_authors_loss_with_all_logits(beta: float) -> None:
    """Value with beta H(q) added, gradient with q held; both from full logits."""
    data = rows(6, lengths=(1, 5))

    loss = gem_loss(requested_values(data, beta), beta).loss

    wanted = [oracle.gem(row, beta) for row in arrays(data)]
    expected = np.mean([value for value, _ in wanted])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-12)
    for got, (_, gradient) in zip(gradients(loss, data), wanted, strict=True):
        np.testing.assert_allclose(got, gradient / len(data), atol=1e-9)


@pytest.mark.parametrize("beta", [0.3, 0.7, 1.0])
def test_gem_is_least_at_the_law_to_the_power_beta(beta: float) -> None:
    """The fixed point f ~ p^beta, found by L-BFGS from a random start."""
    law = torch.tensor([0.6, 0.25, 0.1, 0.05], dtype=torch.float64)
    logits = torch.randn(4, dtype=torch.float64).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [logits],
        max_iter=200,
        tolerance_grad=1e-13,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = gem_loss(_bandit(logits, law, beta), beta).loss
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]

    wanted = law**beta / (law**beta).sum()
    torch.testing.assert_close(logits.detach().softmax(0), wanted, atol=1e-8, rtol=0)


def test_gem_at_temperature_1_is_sft() -> None:
    data = rows(7)
    torch.testing.assert_close(
        gem_loss(requested_values(data, 1.0), 1.0).loss, sft_loss(values(data)).loss
    )


def test_gem_without_tempered_values_is_an_error() -> None:
    with pytest.raises(ConfigError, match="value_temperature"):
        gem_loss(values(rows(0)), 0.7)


FAMILY: dict[str, Callable[[Rows], torch.Tensor]] = {
    "sft": lambda data: sft_loss(values(data)).loss,
    "dft": lambda data: dft_loss(values(data)).loss,
    "gem": lambda data: gem_loss(requested_values(data, 0.7), 0.7).loss,
} | {
    name: (lambda data, name=name: forward_kl_occupancy_loss(values(data), name, GAMMA).loss)
    for name in get_args(Weights)
}


@pytest.mark.parametrize("name", list(FAMILY))
def test_d21_likelihoods_ignore_offsets(name: str) -> None:
    data = rows(8)
    moved = [(logits + 3 * torch.randn(len(logits), 1).double(), y) for logits, y in data]

    torch.testing.assert_close(FAMILY[name](moved), FAMILY[name](data))
