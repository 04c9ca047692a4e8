"""Minimisers in one state, and of the length of answers, by the product's own losses."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqmatch.divergences import divergences_of, get_divergence
from seqmatch.exact.optimum import minimise
from seqmatch.objectives import SequenceMatchConfig, SFTConfig, objective_loss
from seqmatch.types import StateActionValues
from tests.oracles.brute_force import chi_square_bandit, tempered

P = np.array([0.5, 0.3, 0.15, 0.05])
ALPHA = 0.4


class _Logits(nn.Module):
    def __init__(self, num: int) -> None:
        super().__init__()
        self.at = nn.Parameter(torch.linspace(-1.0, 1.0, num, dtype=torch.float64))


def _bandit(name: str) -> Tensor:
    """Trains one choice after which nothing follows: V at the end counts as 0."""
    config = SequenceMatchConfig(divergence=name, alpha=ALPHA, mixture_model=0.0)
    point = _Logits(len(P))

    def loss() -> Tensor:
        value = point.at.logsumexp(0).expand(len(P))
        data = StateActionValues(
            chosen_q=point.at[:, None],
            values=torch.stack([value, torch.zeros_like(value)], dim=1),
            is_action=torch.ones(len(P), 1, dtype=torch.bool),
            weights=torch.from_numpy(P),
        )
        return objective_loss(config, data, None, beta=0.0).loss

    assert minimise(point, loss, lambda: True).is_converged
    return point.at.detach()


def test_d8_reverse_kl_tempers_the_data() -> None:
    policy = _bandit("reverse_kl").softmax(0).numpy()

    np.testing.assert_allclose(policy, tempered(P, 1 / (1 + ALPHA)), rtol=0, atol=1e-9)


def test_d8_chi_square_shrinks_the_logits_and_fixes_their_offset() -> None:
    logits = _bandit("chi_square_pearson").numpy()
    policy = np.exp(logits) / np.exp(logits).sum()

    np.testing.assert_allclose(policy, chi_square_bandit(P, ALPHA), rtol=0, atol=1e-9)
    np.testing.assert_allclose(policy, P * (1 - ALPHA * logits / 2), rtol=0, atol=1e-9)
    assert P @ logits == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", sorted(divergences_of("sequence_match")))
def test_d8_policy_is_the_data_times_the_slope_of_phi(name: str) -> None:
    logits = _bandit(name)

    slope = get_divergence(name).phi_prime(ALPHA * logits)

    np.testing.assert_allclose(logits.softmax(0), P * slope.numpy(), rtol=0, atol=1e-9)


def _geometric(divided_by_length: bool) -> float:
    """The probability of stopping that is learned from answers of length N = 1, 2, ... with
    probability 2^-N."""
    lengths = torch.arange(1, 60)
    weights = 0.5 ** lengths.to(torch.float64)
    if divided_by_length:
        weights = weights / lengths
    is_action = torch.arange(59) < lengths[:, None]
    is_stop = torch.arange(59) == lengths[:, None] - 1
    point = _Logits(2)

    def loss() -> Tensor:
        stop, more = point.at[0], point.at[1]
        value = point.at.logsumexp(0)
        data = StateActionValues(
            chosen_q=torch.where(is_stop, stop, more) * is_action,
            values=value.expand(59, 60),
            is_action=is_action,
            weights=weights,
        )
        return objective_loss(SFTConfig(), data, None, beta=1.0).loss

    minimise(point, loss, lambda: True)
    return float(point.at.detach().softmax(0)[0])


def test_d18_sums_over_tokens_learn_to_stop_rightly_and_means_too_early() -> None:
    assert _geometric(divided_by_length=False) == pytest.approx(0.5, abs=1e-9)
    assert _geometric(divided_by_length=True) == pytest.approx(math.log(2.0), abs=1e-9)
