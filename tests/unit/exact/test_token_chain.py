"""The tables of a chain, state by state against the oracle's rules."""

import pytest
import torch

from seqmatch.errors import ConfigError
from seqmatch.exact.languages import LANGUAGES, get_language
from seqmatch.exact.policies import make_policy, without_backspace
from seqmatch.exact.token_chain import TokenChain
from tests.oracles import token_chain

SIZES = [(2, 1), (2, 5), (4, 3)]


@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize(("vocab", "max_length"), SIZES)
def test_states_and_transitions_are_those_of_the_oracle(
    vocab: int, max_length: int, backspace: bool
) -> None:
    chain = TokenChain.of_size(vocab, max_length, backspace)

    assert list(chain.states) == token_chain.all_states(vocab, max_length)
    for state, number in chain.index.items():
        for action in range(chain.num_actions):
            expected = token_chain.next_state(state, action, vocab, max_length)
            assert chain.states[int(chain.next_state[number, action])] == expected


@pytest.mark.parametrize("backspace", [False, True])
def test_actions_that_exist_lead_to_different_states(backspace: bool) -> None:
    chain = TokenChain.of_size(4, 4, backspace)

    for number, state in enumerate(chain.states):
        reached = chain.next_state[number][chain.exists[number]].tolist()
        assert len(reached) == len(set(reached)) >= 1
        is_terminal = bool(state) and state[-1] == 0
        assert (number in reached) == is_terminal == bool(chain.is_terminal[number])
        assert bool(chain.can_delete[number]) == (backspace and len(state) > 0 and not is_terminal)


def test_levels_parents_and_tokens_name_each_state() -> None:
    chain = TokenChain.of_size(3, 4, True)

    for depth, level in enumerate(chain.levels):
        assert {len(state) for state in chain.states[level]} == {depth}
    for number, state in list(enumerate(chain.states))[1:]:
        assert chain.states[int(chain.parent[number])] == state[:-1]
        assert int(chain.last_token[number]) == state[-1]
        assert int(chain.depth[number]) == len(state)
    assert [chain.states[i] for i in chain.terminal.tolist()] == [
        state for state in chain.states if state and state[-1] == 0
    ]


@pytest.mark.parametrize(("vocab", "max_length"), [(1, 3), (9, 3), (3, 0), (3, 7)])
def test_sizes_outside_their_range_are_refused(vocab: int, max_length: int) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        TokenChain.of_size(vocab, max_length, False)


@pytest.mark.parametrize("name", LANGUAGES)
def test_chain_of_a_language_holds_its_answers(name: str) -> None:
    language = get_language(name)
    chain = TokenChain.of(language, True)

    assert language.law.keys() <= chain.index.keys()
    assert TokenChain.of(language, True) is chain


@pytest.mark.parametrize("kind", ["tabular", "by_position", "bounded"])
def test_policies_are_normalised_over_what_exists(kind: str) -> None:
    chain = TokenChain.of_size(3, 4, True)
    policy = make_policy(chain, kind, seed=4)  # type: ignore[arg-type]

    probs = policy.log_probs().exp()

    assert torch.allclose(probs.sum(dim=-1), torch.ones(chain.num_states).double())
    assert torch.equal(probs > 0, chain.exists)
    again = make_policy(chain, kind, seed=4)  # type: ignore[arg-type]
    assert torch.equal(policy.logits(), again.logits())
    ended = policy.logits()[chain.is_terminal, 0]
    assert torch.equal(policy.values()[chain.is_terminal], ended)


def test_by_position_shares_rows_and_bounded_stays_in_bounds() -> None:
    chain = TokenChain.of_size(3, 4, True)
    shared = make_policy(chain, "by_position", seed=0).logits()
    bounded = make_policy(chain, "bounded", seed=0, scale=5.0).logits()

    assert torch.equal(shared[chain.index[1, 2]], shared[chain.index[2, 1]])
    assert torch.equal(shared[chain.index[1, 0]], shared[chain.index[2, 0]])
    assert bounded[chain.exists].abs().max() <= 1.5


def test_masked_backspace_keeps_the_ratios_of_insertions() -> None:
    chain = TokenChain.of_size(3, 3, True)
    log_probs = make_policy(chain, "tabular", seed=0).log_probs().detach()
    masked = without_backspace(chain, log_probs)

    row = chain.index[(1,)]
    assert float(masked[row].exp().sum()) == pytest.approx(1.0)
    assert float(masked[row, chain.backspace].exp()) == 0.0
    assert float(masked[row, 1] - masked[row, 2]) == pytest.approx(
        float(log_probs[row, 1] - log_probs[row, 2])
    )
