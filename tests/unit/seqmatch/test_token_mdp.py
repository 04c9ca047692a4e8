import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from seqmatch.action_space import ActionSpace
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.token_mdp import final_tokens, is_terminal, replay, step, visited_states
from seqmatch.types import Trajectory
from tests.oracles import token_chain
from tests.oracles.backspace_law import output_law
from tests.oracles.refeed import reduced_prefix

SPACE = ActionSpace(6, 0, 1, 2, True, frozenset({0, 1, 2}))
PROMPT = (2, 4)
BACKSPACE = SPACE.backspace_id
GAMMA = 0.9


def random_policy(vocab: int, backspace: bool, seed: int = 0) -> token_chain.Policy:
    """Positive probabilities that depend on the state; none for backspace at the floor."""

    def probabilities(state: tuple[int, ...]) -> NDArray[np.float64]:
        rng = np.random.default_rng([seed, len(state), *state])
        weights = rng.uniform(0.1, 1.0, vocab + 1)
        weights[-1] *= backspace and len(state) > 0
        return np.asarray(weights / weights.sum(), dtype=np.float64)

    return probabilities


@given(st.lists(st.sampled_from([3, 4, 5, BACKSPACE]), max_size=20))
def test_replay_equals_the_stack_of_live_tokens(actions: list[int]) -> None:
    states = replay(actions, PROMPT, SPACE)

    for time, state in enumerate(states):
        assert list(state) == reduced_prefix(PROMPT, actions[:time], BACKSPACE)


def test_backspace_at_the_floor_is_a_self_loop() -> None:
    assert replay((BACKSPACE, 3), PROMPT, SPACE) == [(2, 4), (2, 4), (2, 4, 3)]


def test_terminal_state_absorbs_every_action() -> None:
    trajectory = Trajectory(PROMPT, (3, 0, 3, 4), (3, 0, BACKSPACE, 4))

    states = visited_states(trajectory, SPACE)

    assert states[2:] == [(2, 4, 3, 0)] * 3
    assert final_tokens(trajectory, SPACE) == (3, 0)


def test_stop_token_at_the_end_of_the_prompt_is_not_terminal() -> None:
    prompt = (2, 0)

    assert not is_terminal(prompt, len(prompt), SPACE)
    assert step(prompt, 3, len(prompt), SPACE) == (2, 0, 3)


@given(st.lists(st.sampled_from([0, 3, 4, BACKSPACE]), min_size=1, max_size=20))
def test_final_tokens_are_the_last_state_without_its_prompt(actions: list[int]) -> None:
    trajectory = Trajectory(PROMPT, tuple(actions), tuple(actions))

    assert PROMPT + final_tokens(trajectory, SPACE) == visited_states(trajectory, SPACE)[-1]


@pytest.mark.parametrize(("actions", "prompt"), [((7,), PROMPT), ((-1,), PROMPT), ((3,), ())])
def test_replay_refuses_what_is_no_action_or_no_prompt(
    actions: tuple[int, ...], prompt: tuple[int, ...]
) -> None:
    with pytest.raises(DemonstrationError):
        replay(actions, prompt, SPACE)


def test_replay_refuses_backspace_in_a_space_without_it() -> None:
    space = ActionSpace(6, 0, 1, None, False, frozenset())

    assert space.num_actions == 6
    with pytest.raises(DemonstrationError, match="no backspace"):
        replay((6,), PROMPT, space)


def test_action_space_refuses_special_tokens_outside_the_vocabulary() -> None:
    with pytest.raises(ConfigError, match=r"\[9\]"):
        ActionSpace(6, 9, 1, 2, True, frozenset())


@pytest.mark.parametrize("backspace", [False, True])
def test_our_transitions_are_those_of_the_chain(backspace: bool) -> None:
    """The oracle's transition table, state by state (its stop token is 0; no length limit here)."""
    space = ActionSpace(3, 0, 0, None, backspace, frozenset())
    for state in token_chain.all_states(3, 9)[:60]:
        for action in range(space.num_actions):
            expected = token_chain.next_state(state, action, 3, 99)
            assert step((1, *state), action, 1, space) == (1, *expected)


@pytest.mark.parametrize("backspace", [False, True])
def test_d1_occupancy_has_mass_one_and_d2_values_telescope(backspace: bool) -> None:
    """D1, D2: exact occupancies; E_rho[V(s) - gamma V(s')] = (1 - gamma) V(s_0) for any V."""
    states = token_chain.all_states(3, 4)
    matrix = token_chain.transition_matrix(random_policy(3, backspace), states, 3, 4)
    rho = token_chain.state_occupancy(matrix, GAMMA)
    values = np.random.default_rng(1).normal(size=len(states))

    assert rho.sum() == pytest.approx(1.0, abs=1e-12)
    telescoped = rho @ (values - GAMMA * matrix @ values)
    assert telescoped == pytest.approx((1 - GAMMA) * values[0], abs=1e-12)


def test_d1_occupancy_equals_discounted_visits_of_replayed_actions() -> None:
    """D1: the linear solve against (1 - gamma) sum_t gamma^t over all action strings, replayed."""
    space = ActionSpace(2, 0, 0, None, True, frozenset())
    states = token_chain.all_states(2, 3)
    policy = random_policy(2, True)
    rho = token_chain.state_occupancy(token_chain.transition_matrix(policy, states, 2, 3), GAMMA)
    visits = dict.fromkeys(states, 0.0)
    alive: dict[tuple[int, ...], float] = {(): 1.0}
    for time in range(250):
        following: dict[tuple[int, ...], float] = {}
        for state, mass in alive.items():
            visits[state] += (1 - GAMMA) * GAMMA**time * mass
            for action, probability in enumerate(policy(state)):
                forced = 0 if len(state) == 2 and action == 1 else action
                after = step((9, *state), forced, 1, space)[1:]
                following[after] = following.get(after, 0.0) + mass * float(probability)
        alive = following

    assert np.allclose([visits[state] for state in states], rho, atol=1e-9)


@pytest.mark.parametrize("backspace", [False, True])
def test_d17_output_law_sums_to_one_and_equals_absorption(backspace: bool) -> None:
    """D17: the closed form against absorption probabilities; without backspace the policy's own."""
    states = token_chain.all_states(3, 4)
    policy = random_policy(3, backspace)

    def forced(state: tuple[int, ...]) -> NDArray[np.float64]:
        p = policy(state)
        return np.array([p[0] + p[1] + p[2], 0.0, 0.0, p[3]]) if len(state) == 3 else p

    exact = token_chain.absorption_law(token_chain.transition_matrix(policy, states, 3, 4), states)
    law = {s: p for s, p in output_law(forced, eos_id=0, max_depth=4).items() if p > 0}

    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    assert law.keys() == exact.keys()
    assert all(law[state] == pytest.approx(exact[state], abs=1e-12) for state in exact)
    if not backspace:
        assert law[1, 0] == pytest.approx(policy(())[1] * policy((1,))[0])
