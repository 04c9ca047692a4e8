"""D1, D2: occupancies of small chains against a dense solve that knows nothing of the tree."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from seqmatch.errors import ConfigError
from seqmatch.exact.occupancy import state_action_occupancy, state_occupancy
from seqmatch.exact.policies import ExactPolicy, make_policy
from seqmatch.exact.token_chain import TokenChain
from tests.oracles import token_chain

SIZES = [(2, 1), (2, 6), (3, 4), (5, 3)]
GAMMA = 0.9


def as_oracle_policy(policy: ExactPolicy) -> token_chain.Policy:
    """The same probabilities, backspace last, as the oracle wants them."""
    probs = policy.log_probs().exp().detach().numpy()

    def probabilities(state: tuple[int, ...]) -> NDArray[np.float64]:
        row = probs[policy.chain.index[state]]
        return row if policy.chain.has_backspace else np.append(row, 0.0)

    return probabilities


@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize(("vocab", "max_length"), SIZES)
@pytest.mark.parametrize("discount", [0.3, 0.9, 0.998])
def test_occupancy_equals_the_dense_solve(
    vocab: int, max_length: int, backspace: bool, discount: float
) -> None:
    chain = TokenChain.of_size(vocab, max_length, backspace)
    policy = make_policy(chain, "tabular", seed=1, scale=2.0)
    states = token_chain.all_states(vocab, max_length)
    matrix = token_chain.transition_matrix(as_oracle_policy(policy), states, vocab, max_length)

    rho = state_occupancy(chain, policy.log_probs(), discount)

    expected = token_chain.state_occupancy(matrix, discount)
    assert torch.allclose(rho, torch.tensor(expected), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize("kind", ["tabular", "by_position", "bounded"])
def test_d1_mass_is_one_and_d2_values_telescope(kind: str, backspace: bool) -> None:
    chain = TokenChain.of_size(4, 4, backspace)
    policy = make_policy(chain, kind, seed=0)  # type: ignore[arg-type]
    values = torch.randn(chain.num_states, generator=torch.Generator().manual_seed(3)).double()

    rho = state_action_occupancy(chain, policy.log_probs(), GAMMA).detach()

    assert float(rho.sum()) == pytest.approx(1.0, abs=1e-14)
    assert not rho[~chain.exists].any()
    telescoped = (rho * (values[:, None] - GAMMA * values[chain.next_state])).sum()
    assert float(telescoped) == pytest.approx(float((1 - GAMMA) * values[0]), abs=1e-13)


def test_absorbed_mass_is_the_discounted_probability_of_the_answer() -> None:
    chain = TokenChain.of_size(3, 4, False)
    log_probs = make_policy(chain, "tabular", seed=0).log_probs().detach()
    states = [(), (2,), (2, 1)]
    path = torch.stack(
        [log_probs[chain.index[s], a] for s, a in zip(states, (2, 1, 0), strict=True)]
    ).sum()

    rho = state_action_occupancy(chain, log_probs, GAMMA)

    ended = rho[chain.index[2, 1, 0]]
    assert float(ended[0]) == pytest.approx(float(GAMMA**3 * path.exp()), rel=1e-12)
    assert not ended[1:].any()


@pytest.mark.parametrize("backspace", [False, True])
def test_gradient_of_the_occupancy_is_that_of_finite_differences(backspace: bool) -> None:
    chain = TokenChain.of_size(3, 3, backspace)
    policy = make_policy(chain, "tabular", seed=0)
    start = policy.log_probs().detach()
    existing = start[chain.exists].requires_grad_()

    def occupancy(entries: torch.Tensor) -> torch.Tensor:
        return state_action_occupancy(chain, start.masked_scatter(chain.exists, entries), 0.8)

    assert torch.autograd.gradcheck(occupancy, (existing,))


def test_gradient_reaches_every_parameter_through_the_policy() -> None:
    chain = TokenChain.of_size(4, 3, True)
    policy = make_policy(chain, "by_position", seed=0)

    rho = state_occupancy(chain, policy.log_probs(), GAMMA)
    gradients = torch.autograd.grad(rho[chain.terminal].square().sum(), [*policy.parameters()][:1])

    assert gradients[0].isfinite().all()
    assert gradients[0][0, : chain.vocab].abs().min() > 0


@pytest.mark.parametrize("discount", [0.0, 1.0, -0.5])
def test_discount_outside_its_range_is_refused(discount: float) -> None:
    chain = TokenChain.of_size(2, 2, False)
    with pytest.raises(ConfigError, match="discount"):
        state_occupancy(chain, make_policy(chain, "tabular", 0).log_probs(), discount)


@pytest.mark.parametrize("backspace", [False, True])
def test_largest_chain_has_mass_one(backspace: bool) -> None:
    chain = TokenChain.of_size(8, 6, backspace)
    policy = make_policy(chain, "tabular", seed=0)

    rho = state_occupancy(chain, policy.log_probs(), 0.998)
    torch.autograd.grad(rho[chain.terminal].sum(), [*policy.parameters()])

    assert chain.num_states == 39_216
    assert float(rho.detach().sum()) == pytest.approx(1.0, abs=1e-12)
