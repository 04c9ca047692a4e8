"""The random numbers, and the actions that they choose."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from seqmatch.decoding.sampling import _hashed, choose_by_uniform
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


@pytest.mark.parametrize("num_actions", [2, 17, 260, 2000])
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


def kept(logits: torch.Tensor, **restrictions: float) -> list[set[int]]:
    """The actions of each row that some number chooses."""
    numbers = torch.linspace(0.0, 1.0 - 2.0**-53, 4001, dtype=torch.float64)
    rows = []
    for row in logits:
        chosen = choose_by_uniform(row.expand(len(numbers), -1), numbers, **restrictions)  # type: ignore[arg-type]
        rows.append(set(chosen.tolist()))
    return rows


@pytest.mark.parametrize(
    "restrictions",
    [
        {"top_k": 3},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"top_k": 6, "top_p": 0.7},
        {"top_p": 0.9, "min_p": 0.15},
        {"top_k": 5, "top_p": 0.95, "min_p": 0.1, "temperature": 1.7},
        {"top_k": 1000},
    ],
)
def test_restrictions_are_those_of_transformers_in_its_order(
    restrictions: dict[str, float],
) -> None:
    logits = torch.tensor(np.random.default_rng(1).normal(size=(30, 12)), dtype=torch.float32)
    scores = logits / restrictions.get("temperature", 1.0)
    ids = torch.zeros(len(logits), 1, dtype=torch.long)
    if "top_k" in restrictions:
        scores = TopKLogitsWarper(int(restrictions["top_k"]))(ids, scores)
    if "top_p" in restrictions:
        scores = TopPLogitsWarper(restrictions["top_p"])(ids, scores)
    if "min_p" in restrictions:
        scores = MinPLogitsWarper(restrictions["min_p"])(ids, scores)
    expected = [set(torch.isfinite(row).nonzero()[:, 0].tolist()) for row in scores]
    assert kept(logits, **restrictions) == expected
    # And what is left keeps its proportions.
    numbers = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    chosen = choose_by_uniform(logits[:1].expand(1000, -1), numbers, **restrictions)  # type: ignore[arg-type]
    shares = torch.bincount(chosen, minlength=12) / 1000
    torch.testing.assert_close(shares, scores[0].softmax(0), atol=2e-3, rtol=0.0)


def nucleus_by_sorting(weights: np.ndarray, top_p: float) -> set[int]:
    """In float64: the likeliest first, of equal ones the lower id first."""
    order = sorted(range(len(weights)), key=lambda action: (-weights[action], action))
    total, reached, chosen = top_p * weights.sum(), 0.0, set()
    for action in order:
        if reached >= total:
            break
        chosen.add(action)
        reached += weights[action]
    return chosen


@pytest.mark.parametrize("num_actions", [7, 900, 6000])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.93])
@pytest.mark.parametrize("levels", [3, 40, 10**9])
def test_top_p_is_the_sorted_one_with_ties_and_far_borders(
    num_actions: int, top_p: float, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of few levels tie; of 6,000 flat ones the border is far beyond the first 256."""
    rng = np.random.default_rng(num_actions)
    weights = (rng.integers(0, levels, size=(3, num_actions)) + 1) / (levels + 1)
    weights[:, 0] = 1.0
    single = torch.tensor(weights, dtype=torch.float32).log()
    exact = (single - single.amax(dim=1, keepdim=True)).exp().double().numpy()
    # In one level a number names an action.
    monkeypatch.setattr("seqmatch.decoding.sampling._AT_ONCE", num_actions)
    for row, logits in enumerate(single):
        wanted = nucleus_by_sorting(exact[row], top_p)
        # The middle of each action's interval chooses it, if it is in the nucleus.
        inside = np.where(np.isin(np.arange(num_actions), sorted(wanted)), exact[row], 0.0)
        ends = inside.cumsum() / inside.sum()
        middles = torch.tensor(ends - inside / inside.sum() / 2)[sorted(wanted)]
        found = choose_by_uniform(logits.expand(len(middles), -1), middles, top_p=top_p)
        assert found.tolist() == sorted(wanted)


def hashed(number: float) -> float:
    """SplitMix64's finaliser on the number's 53 bits, in Python's integers."""
    whole = (1 << 64) - 1
    bits = (int(number * 2**53) + 0x1E3779B97F4A7C15) & whole
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & whole
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & whole
    return ((bits ^ bits >> 31) >> 11) / 2**53


@pytest.mark.parametrize("num_actions", [3000, 5184, 5200])
def test_a_large_vocabulary_is_two_choices_each_by_its_own_number(num_actions: int) -> None:
    rng = np.random.default_rng(num_actions)
    logits = torch.tensor(rng.normal(size=(300, num_actions)) * 3.0)
    logits[:, 0] = -torch.inf
    numbers = rng.random(300)
    found = choose_by_uniform(logits, torch.tensor(numbers)).tolist()
    width = round(num_actions**0.5)
    for weights, number, action in zip(logits.softmax(1).numpy(), numbers, found, strict=True):
        starts = np.arange(0, num_actions, width)
        block = int(np.searchsorted(np.add.reduceat(weights, starts).cumsum(), number, "right"))
        inside = weights[starts[block] : starts[block] + width]
        offset = np.searchsorted(inside.cumsum(), hashed(number) * inside.sum(), "right")
        assert action == starts[block] + offset


def test_the_two_numbers_are_unrelated_and_the_law_is_the_softmax() -> None:
    numbers = torch.tensor(np.random.default_rng(0).random(200_000))
    other = _hashed(numbers)
    assert other.min() >= 0.0
    assert other.max() < 1.0
    together = np.histogram2d(numbers.numpy(), other.numpy(), bins=30)[0]
    assert stats.chisquare(together.ravel()).pvalue > 1e-4
    # Of blocks as narrow as those of a vocabulary, too.
    narrow = 0.3 + torch.arange(20_000, dtype=torch.float64) * 2.0**-53
    assert stats.kstest(_hashed(narrow).numpy(), "uniform").pvalue > 1e-4

    logits = torch.tensor(np.random.default_rng(1).normal(size=(1, 2500)), dtype=torch.float32)
    chosen = torch.cat(
        [
            choose_by_uniform(logits.expand(len(some), -1), some)
            for some in torch.split(numbers, 2000)
        ]
    )
    expected = logits[0].double().softmax(0).numpy() * len(numbers)
    assert stats.chisquare(np.bincount(chosen, minlength=2500), expected).pvalue > 1e-4


def test_rounding_of_another_kernel_hardly_changes_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Logits that are off by what row 9 of the benchmarks allows, 1e-4."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 20_000, generator=generator) * 2.0
    others = logits + 1e-4 * (2.0 * torch.rand(1, 20_000, generator=generator) - 1.0)
    numbers = torch.rand(5_000, generator=generator, dtype=torch.float64)

    def num_changed() -> int:
        changed = 0
        for some in torch.split(numbers, 50):
            one, other = (
                choose_by_uniform(each.expand(len(some), -1), some) for each in (logits, others)
            )
            changed += int((one != other).sum())
        return changed

    in_two_levels = num_changed()
    monkeypatch.setattr("seqmatch.decoding.sampling._AT_ONCE", 20_000)
    at_once = num_changed()
    assert at_once > 5 * in_two_levels
