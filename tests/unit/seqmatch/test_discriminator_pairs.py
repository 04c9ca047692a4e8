"""Relativistic losses: what they leave open, and D19 for learnt deviations."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from seqmatch.discriminators import (
    Pairs,
    WeightedScores,
    all_pairs,
    bradley_terry,
    bradley_terry_with_deviations,
    log_ratio_offset,
    matched_pairs,
)
from tests.two_measures import minimiser


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def measures() -> tuple[Tensor, Tensor]:
    data, model = random(3, 2, 6).softmax(-1)
    return data, model


def pairs_of(seed: int) -> tuple[Pairs, Pairs]:
    """Scores and log deviations of seven matched pairs."""
    weights = random(seed, 7).softmax(-1)
    scores = matched_pairs(random(seed + 1, 7), random(seed + 2, 7), weights)
    return scores, Pairs(random(seed + 3, 7), random(seed + 4, 7), weights)


def test_all_pairs_are_least_at_the_log_ratio_up_to_a_constant_that_the_offset_finds(
    measures: tuple[Tensor, Tensor],
) -> None:
    data, model = measures
    expected = (data / model).log()

    h = minimiser(
        lambda h: bradley_terry(all_pairs(WeightedScores(h, data), WeightedScores(h, model))),
        torch.full_like(data, 0.7),
    )

    offset = log_ratio_offset(WeightedScores(h, model))
    torch.testing.assert_close(h - offset, expected, atol=1e-6, rtol=0)
    assert abs(float(offset)) > 0.1, "the constant is free: it stays near where it started"


def test_all_pairs_by_hand_and_without_what_has_no_weight() -> None:
    data = WeightedScores(torch.tensor([1.0, 9.0, 2.0]), torch.tensor([0.25, 0.0, 0.75]))
    rollouts = WeightedScores(torch.tensor([[-1.0], [0.5]]), torch.tensor([[0.5], [0.5]]))

    loss = bradley_terry(all_pairs(data, rollouts))

    expected = sum(
        w * v * -math.log(1 / (1 + math.exp(b - a)))
        for a, w in ((1.0, 0.25), (2.0, 0.75))
        for b, v in ((-1.0, 0.5), (0.5, 0.5))
    )
    assert float(loss) == pytest.approx(expected)


def test_matched_pairs_see_differences_only() -> None:
    better, worse, shift = random(0, 5), random(1, 5), random(2, 5)

    loss = bradley_terry(matched_pairs(better, worse))

    assert float(loss) == pytest.approx(float(-logsigmoid(better - worse).mean()))
    shifted = bradley_terry(matched_pairs(better + shift, worse + shift))
    assert float(shifted) == pytest.approx(float(loss), abs=1e-14)
    assert float(bradley_terry(matched_pairs(shift, shift))) == pytest.approx(math.log(2))


def test_d19_equation_26_is_the_link_of_equation_25() -> None:
    scores, log_v = pairs_of(0)

    loss = bradley_terry_with_deviations(scores, log_v, scale_penalty=0.0)

    v_better, v_worse = log_v.better.exp(), log_v.worse.exp()
    z = (scores.better - scores.worse) / (2 * (v_better**2 + v_worse**2)).sqrt()
    probability = 0.5 + 0.5 * torch.tanh(z)
    assert float(loss) == pytest.approx(float(-(scores.weights * probability.log()).sum()))


def test_d19_unit_deviations_give_bradley_terry() -> None:
    scores, log_v = pairs_of(10)
    unit = Pairs(torch.zeros_like(log_v.better), torch.zeros_like(log_v.worse), log_v.weights)

    loss = bradley_terry_with_deviations(scores, unit)

    assert float(loss) == pytest.approx(float(bradley_terry(scores)), abs=1e-15)


@pytest.mark.parametrize("scale", [0.2, 3.0])
def test_d19_scale_is_free_without_the_penalty(scale: float) -> None:
    scores, log_v = pairs_of(20)
    scaled = Pairs(scale * scores.better, scale * scores.worse, scores.weights)
    moved = Pairs(log_v.better + math.log(scale), log_v.worse + math.log(scale), log_v.weights)

    def loss(scores: Pairs, log_v: Pairs, penalty: float) -> float:
        return float(bradley_terry_with_deviations(scores, log_v, scale_penalty=penalty))

    assert loss(scaled, moved, 0.0) == pytest.approx(loss(scores, log_v, 0.0), abs=1e-14)
    assert loss(scaled, moved, 1.0) != pytest.approx(loss(scores, log_v, 1.0), abs=1e-3)


def test_the_penalty_fixes_the_scale_and_nothing_else() -> None:
    """Of all (c R, c V) the one with mean log V = 0 is chosen, at the same Bradley-Terry loss."""
    scores, log_v = pairs_of(40)

    def loss(log_c: Tensor, penalty: float = 1.0) -> Tensor:
        c = log_c.exp()
        return bradley_terry_with_deviations(
            Pairs(c * scores.better, c * scores.worse, scores.weights),
            Pairs(log_v.better + log_c, log_v.worse + log_c, scores.weights),
            scale_penalty=penalty,
        )

    start = torch.tensor(0.8, dtype=torch.float64)
    log_c = minimiser(loss, start)

    mean = scores.mean((log_v.better + log_v.worse) / 2)
    assert log_c.item() == pytest.approx(-mean.item(), abs=1e-9)
    assert loss(log_c).item() == pytest.approx(loss(start, 0.0).item(), abs=1e-14)


def test_a_deviation_beyond_its_limit_still_has_a_gradient() -> None:
    scores, _ = pairs_of(30)
    far = torch.full_like(scores.better, 20.0, requires_grad=True)

    loss = bradley_terry_with_deviations(scores, Pairs(far, far, scores.weights))
    (gradient,) = torch.autograd.grad(loss, far)

    assert math.isfinite(loss.item())
    assert bool((gradient > 0).all())
