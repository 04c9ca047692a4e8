"""What the built-in languages are there to show, by exact optimisation over several seeds."""

import pytest
import torch
from torch import Tensor

from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.divergence_values import trajectory_divergence
from seqmatch.exact.languages import get_language
from seqmatch.exact.optimum import minimise
from seqmatch.exact.output_law import data_law, output_law, simulate
from seqmatch.exact.policies import ExactPolicy, make_policy, without_backspace
from seqmatch.exact.token_chain import TokenChain

NUM_SEEDS = 20
NUM_SIMULATED = 200_000


def modes_after(name: str, seed: int) -> tuple[float, float]:
    """Probability of "ok" and "no" after minimising the exact divergence of answers."""
    language = get_language("two_modes")
    chain = TokenChain.of(language, False)
    policy = make_policy(chain, language.policy, seed)
    optimum = minimise(
        policy,
        lambda: trajectory_divergence(name, language, chain, policy.log_probs()),
        lambda: True,
    )
    assert optimum.is_converged
    law, answers = output_law(chain, policy.log_probs()).tolist(), chain.terminal.tolist()
    ok, no = (answers.index(chain.index[answer]) for answer in ((1, 2, 0), (3, 1, 0)))
    return law[ok], law[no]


def test_forward_kl_covers_both_modes_at_every_seed() -> None:
    for seed in range(NUM_SEEDS):
        often, rarer = modes_after("forward_kl", seed)
        assert often > 0.6 / 3
        assert rarer > 0.3 / 3


def test_reverse_kl_takes_one_mode_at_every_seed() -> None:
    taken = []
    for seed in range(NUM_SEEDS):
        modes = modes_after("reverse_kl", seed)
        assert max(modes) > 0.75
        assert min(modes) < 0.005
        taken.append(modes.index(max(modes)))
    assert set(taken) == {0, 1}  # each is a local minimum; which one, the start decides


def trained_on_trap(noise_rate: float, backspace: bool, seed: int) -> ExactPolicy:
    """The exact optimum of behaviour cloning on the trap language."""
    language = get_language("trap")
    chain = TokenChain.of(language, backspace)
    visits = Demonstrator(language, chain, noise_rate, 1, language.discount).visits(1.0)
    policy = make_policy(chain, language.policy, seed)

    def likelihood() -> Tensor:
        return -(visits.mass * policy.log_probs()[visits.states, visits.labels]).sum()

    assert minimise(policy, likelihood, lambda: True).is_converged
    return policy


def trapped(chain: TokenChain, log_probs: Tensor) -> float:
    outside = data_law(chain, get_language("trap")) == 0
    return float(output_law(chain, log_probs.detach())[outside].sum())


@pytest.mark.parametrize("seed", range(3))
def test_backspace_learned_from_mistakes_leads_out_of_the_trap(seed: int) -> None:
    """Against the same policy with backspace masked, and one that never had it: less by far.

    Not because backspace is in the way of everything: without mistakes in the demonstrations it
    stays unlearned, and helps little.
    """
    policy = trained_on_trap(0.2, True, seed)
    chain, log_probs = policy.chain, policy.log_probs().detach()
    never_had_it = trained_on_trap(0.0, False, seed)
    unlearned = trained_on_trap(0.0, True, seed)

    with_backspace = trapped(chain, log_probs)
    masked = trapped(chain, without_backspace(chain, log_probs))

    assert with_backspace < masked / 5
    assert with_backspace < trapped(never_had_it.chain, never_had_it.log_probs()) / 5
    assert with_backspace < trapped(unlearned.chain, unlearned.log_probs()) / 2


def test_d17_simulated_decodes_of_the_trained_policy_agree() -> None:
    policy = trained_on_trap(0.2, True, 0)
    chain, log_probs = policy.chain, policy.log_probs()
    exact = trapped(chain, log_probs)

    answers = simulate(chain, log_probs, NUM_SIMULATED, torch.Generator().manual_seed(0))

    is_trap = torch.zeros(chain.num_states, dtype=torch.bool)
    is_trap[chain.terminal] = data_law(chain, get_language("trap")) == 0
    simulated = float(is_trap[answers].double().mean())
    error = (exact * (1 - exact) / NUM_SIMULATED) ** 0.5
    assert abs(simulated - exact) < 4 * error
