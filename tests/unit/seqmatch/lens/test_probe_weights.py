"""The weights of the probe's loss: on an enumerated law its minimiser is log P/Q at every pair."""

import math

import pytest
import torch
from torch import Tensor

from seqmatch.discriminators import WeightedScores, binary_cross_entropy
from seqmatch.lens.probe import fit_weights
from tests.two_measures import minimiser

STOP = 9
P = {(STOP,): 0.1, (1, STOP): 0.4, (2, STOP): 0.1, (1, 2, STOP): 0.1, (1, 1, STOP): 0.3}
Q = {(STOP,): 0.3, (1, STOP): 0.1, (2, STOP): 0.2, (1, 2, STOP): 0.35, (1, 1, STOP): 0.05}
"""After the letter 1 the answers of Q are longer: weights that depend on N would show there."""


def test_the_minimiser_is_the_log_ratio_of_prefixes_at_every_token() -> None:
    answers = list(P)
    prefixes = sorted({word[:end] for word in answers for end in range(1, len(word) + 1)})
    at = torch.tensor(
        [[prefixes.index(word[: min(end, len(word))]) for end in (1, 2, 3)] for word in answers]
    )
    is_action = torch.tensor([[end <= len(word) for end in (1, 2, 3)] for word in answers])
    weights = [
        fit_weights(is_action, 2.0, torch.tensor([law[word] for word in answers]).double())
        for law in (P, Q)
    ]

    def loss(table: Tensor) -> Tensor:
        data, rollouts = (WeightedScores(table[at], each) for each in weights)
        return binary_cross_entropy(data, rollouts)

    found = minimiser(loss, torch.zeros(len(prefixes), dtype=torch.float64))

    for prefix, h in zip(prefixes, found.tolist(), strict=True):
        p, q = (
            sum(share for word, share in law.items() if word[: len(prefix)] == prefix)
            for law in (P, Q)
        )
        assert h == pytest.approx(math.log(p / q), abs=1e-6)


def test_half_of_the_weight_is_at_the_last_tokens() -> None:
    is_action = torch.tensor([[True, True, True, True], [True, True, False, False]])

    found = fit_weights(is_action, 3.0)

    assert found.sum() == pytest.approx(1.0)
    assert found[0].tolist() == pytest.approx([1 / 12, 1 / 12, 1 / 12, 1 / 12 + 1 / 4])
    assert found[1].tolist() == pytest.approx([1 / 12, 1 / 12 + 1 / 4, 0.0, 0.0])
