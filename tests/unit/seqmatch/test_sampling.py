"""The random numbers, and the actions that they choose."""

import numpy as np
import pytest
import torch
from scipy import stats

from seqmatch.decoding.sampling import choose_by_uniform
from seqmatch.decoding.uniforms import UniformSource


def test_numbers_are_a_function_of_seed_row_and_index() -> None:
    rows, indices = np.arange(12).repeat(5), np.tile(np.arange(5), 12)
    source = UniformSource(42)
    together = source.draw(rows, indices)
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(together[order], source.draw(rows[order], indices[order]))
    np.testing.assert_array_equal(together, UniformSource(42).draw(rows, indices))
    assert len(set(together)) == 60
    assert not set(together) & set(UniformSource(43).draw(rows, indices))


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**62])
def test_numbers_are_uniform_and_neighbours_unrelated(seed: int) -> None:
    rows, indices = (grid.ravel() for grid in np.mgrid[:200, :200])
    numbers = UniformSource(seed).draw(rows, indices)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert stats.kstest(numbers, "uniform").pvalue > 1e-4
    table = numbers.reshape(200, 200)
    # Under independence a correlation of n pairs has standard error 1/sqrt(n): 5 of them.
    for one, other in [(table[1:], table[:-1]), (table[:, 1:], table[:, :-1])]:
        correlation = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 5.0 / one.size**0.5


@pytest.mark.parametrize("num_actions", [2, 17, 260, 5000])
def test_equals_the_inverse_cdf_in_float64(num_actions: int) -> None:
    rng = np.random.default_rng(num_actions)
    logits = rng.normal(size=(300, num_actions)) * 3.0
    logits[:, 0] = -np.inf
    uniforms = rng.random(300)
    found = choose_by_uniform(
        torch.tensor(logits, dtype=torch.float32), torch.tensor(uniforms), temperature=0.7
    ).numpy()
    single = logits.astype(np.float32).astype(np.float64) / 0.7
    weights = np.exp(single - single.max(axis=1, keepdims=True))
    cdf = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    for row, action in enumerate(found):
        assert cdf[row, action] >= uniforms[row] - 1e-6
        assert action == 0 or cdf[row, action - 1] <= uniforms[row] + 1e-6
        assert weights[row, action] > 0.0


def test_no_number_chooses_an_action_that_does_not_exist() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(4, 1)
    numbers = torch.tensor([0.0, 0.4999, 0.5, 1.0 - 2.0**-53], dtype=torch.float64)
    assert choose_by_uniform(logits, numbers).tolist() == [1, 1, 3, 3]


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    numbers = torch.linspace(0.0, 0.999, 50, dtype=torch.float64)
    for top_p, kept in [(0.4, {1}), (0.6, {1, 3}), (0.8, {1, 2, 3}), (1.0, {0, 1, 2, 3})]:
        chosen = choose_by_uniform(logits.repeat(50, 1), numbers, top_p=top_p)
        assert set(chosen.tolist()) == kept
