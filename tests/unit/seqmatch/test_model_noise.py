"""Noise that the policy proposes: the rule of labels, the right states, and the right odds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from seqmatch.errors import ConfigError, DivergedError
from seqmatch.model_noise import corrupt_by_policy
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.policy import Policy
from seqmatch.token_mdp import visited_states
from seqmatch.types import TokenizedDemonstration, Trajectory
from tests.corrupted_trajectories import assert_labels_are_true, burst_lengths
from tests.tiny_models import policy_of, tiny_llama

STOP = 10
DEMOS = [
    TokenizedDemonstration((3, 4), (5, 6, 7, 8, STOP), 0),
    TokenizedDemonstration((1,), (2, 2, STOP), 1),
    TokenizedDemonstration((9, 9, 9), (0, 1, 2, 3, 4, 5, 6, STOP), 2),
]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of(tiny_llama())


def noisy(
    policy: Policy,
    demos: list[TokenizedDemonstration] = DEMOS,
    seed: int = 0,
    max_positions: int = 1000,
    max_tokens: int | None = None,
    **config: float,
) -> list[Trajectory]:
    noise = CorruptionConfig.model_validate({"rate": 0.5, "alphabet": "model_top_k", **config})
    return corrupt_by_policy(
        policy,
        demos,
        noise,
        np.random.default_rng(seed),
        max_tokens=max_tokens,
        max_positions=max_positions,
    )


def probabilities(policy: Policy, state: tuple[int, ...]) -> np.ndarray:
    """p(x|s) of the tokens, by a plain forward pass on the state alone."""
    with torch.no_grad():
        logits = policy.lm(input_ids=torch.tensor([state]), use_cache=False).logits[0, -1]
    found: np.ndarray = logits.double().softmax(0).numpy()
    return found


@pytest.mark.parametrize("burst", [1, 4])
def test_d16_labels_are_true_and_the_answer_remains(policy: Policy, burst: int) -> None:
    lengths = []
    for seed in range(10):
        for demo, row in zip(DEMOS, noisy(policy, seed=seed, burst=burst), strict=True):
            assert_labels_are_true(row, demo, policy.space)
            lengths += burst_lengths(row, policy.space)

    assert set(lengths) == set(range(1, burst + 1))


def test_wrong_tokens_are_the_likeliest_in_their_own_state(policy: Policy) -> None:
    """Each is among the top 2 of a plain pass on its state, the right token and stop left out."""
    num_checked = 0
    for seed in range(4):
        for row in noisy(policy, seed=seed, burst=3, top_k=2):
            states = visited_states(row, policy.space)
            for state, label, push in zip(states, row.labels, row.pushes, strict=False):
                if push in (label, policy.space.backspace_id):
                    continue
                likely = probabilities(policy, state)
                likely[[token for token in (label, STOP) if token <= STOP]] = 0.0
                assert push in likely.argsort()[-2:]
                num_checked += 1
    assert num_checked > 20


def test_wrong_tokens_are_drawn_in_proportion_to_their_probabilities(policy: Policy) -> None:
    """Chi-square tests at the 1e-6 quantile of 2 degrees of freedom (about 27.6)."""
    demo = TokenizedDemonstration((3, 4), (5,), 0)  # one place: struck or not
    rows = noisy(policy, [demo] * 4000, rate=0.5, burst=2, top_k=3, max_positions=100_000)

    first = [row.pushes[0] for row in rows if len(row.pushes) > 1]
    popular = max(set(first), key=first.count)
    second = [row.pushes[1] for row in rows if len(row.pushes) == 5 and row.pushes[0] == popular]
    for tokens, state, right in ((first, (3, 4), 5), (second, (3, 4, popular), STOP)):
        expected = probabilities(policy, state)
        expected[[right, STOP]] = 0.0
        top = expected.argsort()[-3:]
        shares = expected[top] / expected[top].sum() * len(tokens)
        counts = np.array([tokens.count(token) for token in top.tolist()])
        assert len(tokens) > 200
        assert counts.sum() == len(tokens)
        assert ((counts - shares) ** 2 / shares).sum() < 27.6


def test_the_draw_is_a_function_of_seed_weights_and_batch(policy: Policy) -> None:
    once, again = noisy(policy, burst=3), noisy(policy, burst=3)

    assert once == again
    assert noisy(policy, burst=3, max_positions=1) == once
    assert noisy(policy, seed=1, burst=3) != once
    assert noisy(policy_of(tiny_llama(seed=7)), burst=3) != once


def test_strikes_do_not_depend_on_the_weights(policy: Policy) -> None:
    other = noisy(policy_of(tiny_llama(seed=7)), burst=3)

    for one, two in zip(noisy(policy, burst=3), other, strict=True):
        assert one.labels == two.labels


def test_more_candidates_than_tokens_are_all_tokens(policy: Policy) -> None:
    rows = noisy(policy, [DEMOS[0]] * 400, top_k=1000, max_positions=100_000)

    pushed = {push for row in rows for push in row.pushes}
    assert pushed == set(range(STOP + 2))


def test_a_place_stays_clean_where_only_the_right_token_may_be_pushed() -> None:
    policy = policy_of(tiny_llama())
    policy.space = replace(policy.space, unpushable=frozenset(range(11)) - {2})
    back = policy.space.backspace_id

    found = {row.pushes for seed in range(9) for row in noisy(policy, DEMOS[1:2], seed, burst=2)}

    bursts = [(), (2, back), (2, 2, back, back)]
    assert found == {(2, 2, *burst, STOP) for burst in bursts}


def test_no_state_is_longer_than_the_limit(policy: Policy) -> None:
    for demo in DEMOS:
        limit = len(demo.prompt_ids) + len(demo.completion_ids)
        (row,) = noisy(policy, [demo], burst=5, max_tokens=limit)
        assert max(map(len, visited_states(row, policy.space))) <= limit


def test_weights_are_only_read(policy: Policy) -> None:
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}

    noisy(policy, burst=2)

    assert all(torch.equal(before[name], weight) for name, weight in policy.state_dict().items())
    assert all(weight.grad is None for weight in policy.parameters())


def test_a_policy_without_backspace_is_refused() -> None:
    with pytest.raises(ConfigError, match="backspace"):
        noisy(policy_of(tiny_llama(), backspace=False))


def test_logits_that_are_not_finite_are_told() -> None:
    policy = policy_of(tiny_llama())
    with torch.no_grad():
        policy.head_weight[0] = torch.nan

    with pytest.raises(DivergedError, match="not finite"):
        noisy(policy)
