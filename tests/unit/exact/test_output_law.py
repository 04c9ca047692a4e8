"""D17: the law of what stands in the end, against its oracle, linear algebra and simulation."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seqmatch.exact.languages import get_language
from seqmatch.exact.output_law import data_law, log_output_law, output_law, simulate
from seqmatch.exact.policies import make_policy, without_backspace
from seqmatch.exact.token_chain import TokenChain
from tests.oracles import token_chain
from tests.oracles.backspace_law import output_law as oracle_law

SIZES = [(2, 1), (2, 6), (3, 4), (4, 3)]
NUM_SIMULATED = 200_000


def named(chain: TokenChain, law: torch.Tensor) -> dict[tuple[int, ...], float]:
    """A law by the answers themselves."""
    numbers = chain.terminal.tolist()
    return {chain.states[n]: float(p) for n, p in zip(numbers, law.detach(), strict=True)}


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize(("vocab", "max_length"), SIZES)
def test_d17_law_equals_the_recursion_and_the_absorption_probabilities(
    vocab: int, max_length: int, backspace: bool, scale: float
) -> None:
    chain = TokenChain.of_size(vocab, max_length, backspace)
    log_probs = make_policy(chain, "tabular", seed=2, scale=scale).log_probs().detach()
    probs = log_probs.exp().numpy()

    def policy(state: tuple[int, ...]) -> NDArray[np.float64]:
        row = probs[chain.index[state]]
        return row if backspace else np.append(row, 0.0)

    law = named(chain, output_law(chain, log_probs))

    states = token_chain.all_states(vocab, max_length)
    matrix = token_chain.transition_matrix(policy, states, vocab, max_length)
    absorbed = token_chain.absorption_law(matrix, states)
    recursive = oracle_law(policy, eos_id=0, max_depth=max_length)
    assert math.fsum(law.values()) == pytest.approx(1.0, abs=1e-12)
    for answer, probability in law.items():
        assert probability == pytest.approx(absorbed[answer], rel=1e-9)
        assert probability == pytest.approx(recursive[answer], rel=1e-9)


def test_without_backspace_the_law_is_the_product_of_probabilities() -> None:
    chain = TokenChain.of_size(3, 3, False)
    log_probs = make_policy(chain, "tabular", seed=0).log_probs().detach()

    law = named(chain, output_law(chain, log_probs))

    for answer, probability in law.items():
        path = [float(log_probs[chain.index[answer[:t]], x]) for t, x in enumerate(answer)]
        assert probability == pytest.approx(math.exp(sum(path)), rel=1e-12)


def test_backspace_of_probability_zero_changes_nothing() -> None:
    """D17, b = 0: the law of the chain with the action is that of the chain without it."""
    with_it, without = (TokenChain.of_size(3, 4, each) for each in (True, False))
    policy = make_policy(with_it, "tabular", seed=0)
    masked = without_backspace(with_it, policy.log_probs())

    expected = output_law(without, masked[:, : without.vocab])
    assert torch.allclose(output_law(with_it, masked), expected, rtol=1e-12, atol=0)


def test_law_is_precise_where_backspace_is_almost_certain() -> None:
    """Every state but the empty one deletes with probability 1 - e^-60: 1 - w would be lost."""
    chain = TokenChain.of_size(3, 3, True)
    logits = make_policy(chain, "tabular", seed=0).logits().detach().clone()
    logits[chain.can_delete, chain.backspace] = 60.0
    kept = logits.clone()
    kept[chain.can_delete, chain.backspace] = 61.0
    first, second = (output_law(chain, each.log_softmax(dim=-1)) for each in (logits, kept))

    # One token answers are entered from the floor; a longer one must survive one deletion more.
    shorter, longer = (chain.terminal.tolist().index(chain.index[a]) for a in ((1, 0), (1, 2, 0)))
    assert float(first.sum()) == pytest.approx(1.0, abs=1e-12)
    fall = (second / first)[[shorter, longer]].log()
    assert fall.tolist() == pytest.approx([-1.0, -2.0], abs=1e-9)


def test_gradient_of_the_law_is_that_of_finite_differences() -> None:
    chain = TokenChain.of_size(3, 3, True)
    start = make_policy(chain, "tabular", seed=0).log_probs().detach()
    existing = start[chain.exists].requires_grad_()

    def law(entries: torch.Tensor) -> torch.Tensor:
        log_probs = start.masked_scatter(chain.exists, entries).log_softmax(dim=-1)
        return log_output_law(chain, log_probs)

    assert torch.autograd.gradcheck(law, (existing,))


def test_d17_law_agrees_with_200_000_simulated_decodes() -> None:
    """Chi-square over the answers of the trap language; its 99.99 % point is not passed."""
    chain = TokenChain.of(get_language("trap"), True)
    log_probs = make_policy(chain, "bounded", seed=7).log_probs()
    expected = NUM_SIMULATED * output_law(chain, log_probs).detach()

    answers = simulate(chain, log_probs, NUM_SIMULATED, torch.Generator().manual_seed(0))

    counts = torch.bincount(answers, minlength=chain.num_states)[chain.terminal]
    assert int(counts.sum()) == NUM_SIMULATED
    assert expected.min() > 5
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(expected) - 1
    # Wilson and Hilferty: the cube root of chi-square over its freedom is close to normal.
    z = ((chi_square / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / (2 / (9 * freedom)) ** 0.5
    assert abs(z) < 3.7


def test_data_law_is_the_language_on_the_axis_of_answers() -> None:
    language = get_language("two_modes")
    chain = TokenChain.of(language, False)

    assert named(chain, data_law(chain, language)) == dict(language.law)
