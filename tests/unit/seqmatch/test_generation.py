"""Decoding with backspace: its law, its limits, and that it is a function of the random numbers."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import Rollout, UniformSource, generate, standing_tokens, to_trace
from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.errors import DemonstrationError, DivergedError
from seqmatch.policy import Policy
from tests.oracles.backspace_law import output_law
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1), (2, 2), (9, 9, 1, 1)]


@pytest.fixture(params=[tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_of(request.param(), likes_backspace=2.0)


def state_probabilities(
    policy: Policy, prefix: tuple[int, ...], can_delete: bool, temperature: float = 1.0
) -> np.ndarray:
    """Of tokens and backspace in one state, from the model's own logits."""
    with torch.no_grad():
        output = policy.lm(input_ids=torch.tensor([prefix]), output_hidden_states=True)
        hidden = output.hidden_states[-1][0, -1].double()
        backspace = hidden @ row_of(policy).double() if can_delete else torch.tensor(-np.inf)
        logits = torch.cat([output.logits[0, -1].double(), backspace[None]])
    return (logits / temperature).softmax(0).numpy()


def recomputing_decoder(
    policy: Policy, row: int, prompt: tuple[int, ...], decoding: DecodingConfig, seed: int
) -> tuple[int, ...]:
    """Slow and obvious: the whole prefix is read again before each action."""
    space, uniforms = policy.space, UniformSource(seed)
    stack: list[int] = []
    actions: list[int] = []
    reserve = min(decoding.max_new_tokens, decoding.max_actions // 4)
    while len(actions) < decoding.max_actions and len(stack) < decoding.max_new_tokens:
        can_delete = bool(stack) and decoding.max_actions - len(actions) > reserve
        p = state_probabilities(policy, (*prompt, *stack), can_delete, decoding.temperature)
        u = uniforms.draw(np.array([row]), np.array([len(actions)]))[0]
        action = int(np.searchsorted(p.cumsum(), u * p.sum(), side="right"))
        actions.append(action)
        if action == space.backspace_id:
            stack.pop()
        else:
            stack.append(action)
        if action == space.eos_id:
            break
    return tuple(actions)


def test_equals_full_recompute_with_the_same_random_numbers(policy: Policy) -> None:
    decoding = DecodingConfig(max_new_tokens=20, max_actions=60, temperature=1.3)
    prompts = PROMPTS * 3
    found = generate(policy, prompts, decoding, backspace=True, uniforms=UniformSource(5))
    expected = [
        recomputing_decoder(policy, row, prompt, decoding, 5) for row, prompt in enumerate(prompts)
    ]
    assert [rollout.actions for rollout in found] == expected
    assert sum(actions.count(policy.space.backspace_id) for actions in expected) > 3


def test_a_row_does_not_depend_on_the_batch() -> None:
    policy = policy_of(tiny_llama())
    decoding = DecodingConfig(max_new_tokens=16, max_actions=64)
    uniforms = UniformSource(3)
    prompts = PROMPTS * 4
    together = generate(policy, prompts, decoding, backspace=True, uniforms=uniforms)
    alone = [
        generate(policy, [prompt], decoding, backspace=True, uniforms=uniforms, row_ids=[row])[0]
        for row, prompt in enumerate(prompts)
    ]
    assert together == alone
    assert len({rollout.actions for rollout in together}) > 10


def test_output_law_by_simulation() -> None:
    """D17: a chi-square test against the closed form; the draws are fixed by the seed."""
    policy = policy_of(tiny_llama(vocab_size=4, seed=3), likes_backspace=0.5)
    prompt, max_depth, num_rollouts = (1, 2), 3, 20_000
    law = output_law(
        lambda prefix: state_probabilities(policy, prompt + prefix, can_delete=bool(prefix)),
        policy.space.eos_id,
        max_depth,
    )
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    decoding = DecodingConfig(max_new_tokens=max_depth, max_actions=2000)
    found = generate(
        policy, [prompt] * num_rollouts, decoding, backspace=True, uniforms=UniformSource(11)
    )
    backspace_id = policy.space.backspace_id
    counts = Counter(standing_tokens(rollout.actions, backspace_id) for rollout in found)
    assert set(counts) <= set(law)
    # Cells with few expected counts are pooled, as the test's approximation asks.
    large = [text for text, p in law.items() if p * num_rollouts >= 5]
    observed = [counts[text] for text in large]
    expected = [law[text] * num_rollouts for text in large]
    observed.append(num_rollouts - sum(observed))
    expected.append(num_rollouts - sum(expected))
    keep = slice(None) if expected[-1] >= 5 else slice(-1)
    seen, predicted = np.array(observed[keep], float), np.array(expected[keep])
    result = stats.chisquare(seen, predicted * seen.sum() / predicted.sum())
    assert result.pvalue > 1e-3, result
    assert sum(rollout.actions.count(backspace_id) for rollout in found) > num_rollouts / 10


def test_without_backspace_it_is_the_policy_with_that_action_removed() -> None:
    policy = policy_of(tiny_llama())
    decoding = DecodingConfig(max_new_tokens=16, max_actions=64)
    found = generate(policy, PROMPTS, decoding, backspace=False, uniforms=UniformSource(5))
    plain = policy_of(tiny_llama(), backspace=False)
    expected = generate(plain, PROMPTS, decoding, backspace=True, uniforms=UniformSource(5))
    assert found == expected
    assert all(policy.space.backspace_id not in rollout.actions for rollout in found)


def always_deletes() -> Policy:
    """Backspace is by far the likeliest action wherever it exists."""
    policy = policy_of(tiny_gpt2())
    with torch.no_grad():
        policy.lm.transformer.ln_f.bias.fill_(1.0)
        row_of(policy).fill_(100.0)
    return policy


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_floor_and_budget(temperature: float) -> None:
    policy = always_deletes()
    decoding = DecodingConfig(max_new_tokens=8, max_actions=21, temperature=temperature)
    found = generate(policy, PROMPTS, decoding, backspace=True, uniforms=UniformSource(1))
    for rollout in found:
        depth = 0
        for index, action in enumerate(rollout.actions):
            depth += -1 if action == policy.space.backspace_id else 1
            assert depth >= 0
            if 21 - index <= 5:
                assert action != policy.space.backspace_id
        stopped_at_once = rollout.actions == (policy.space.eos_id,)
        assert stopped_at_once or rollout.actions[1] == policy.space.backspace_id
        assert len(rollout.actions) <= 21


def test_greedy_never_retypes_what_it_took_back() -> None:
    policy = always_deletes()
    decoding = DecodingConfig(max_new_tokens=8, max_actions=60, temperature=0.0)
    for rollout in generate(policy, PROMPTS, decoding, backspace=True, uniforms=UniformSource(1)):
        stack: list[int] = []
        taken_back: set[tuple[int, ...]] = set()
        for action in rollout.actions:
            if action == policy.space.backspace_id:
                taken_back.add(tuple(stack))
                stack.pop()
            else:
                stack.append(action)
                assert tuple(stack) not in taken_back
        assert taken_back


def test_limits_of_the_answer_and_of_the_context() -> None:
    policy = policy_of(tiny_llama(), backspace=False)
    with torch.no_grad():  # never stops
        policy.lm.lm_head.weight[policy.space.eos_id].zero_()
    decoding = DecodingConfig(max_new_tokens=8, max_actions=5, temperature=0.0)
    (rollout,) = generate(policy, [(1,)], decoding, backspace=True, uniforms=UniformSource(0))
    assert (len(rollout.actions), rollout.is_finished) == (5, False)
    decoding = DecodingConfig(max_new_tokens=8, max_actions=50, temperature=0.0)
    rollouts = generate(
        policy, [(1,) * 61, (1,)], decoding, backspace=True, uniforms=UniformSource(0)
    )
    assert [len(each.actions) for each in rollouts] == [3, 8]
    with pytest.raises(DemonstrationError, match="1 to 63 tokens"):
        generate(policy, [(1,) * 64], decoding, backspace=True, uniforms=UniformSource(0))
    with pytest.raises(DemonstrationError, match="1 to 63 tokens"):
        generate(policy, [()], decoding, backspace=True, uniforms=UniformSource(0))
    assert generate(policy, [], decoding, backspace=True, uniforms=UniformSource(0)) == []


def test_streams_the_actions_in_the_order_of_each_row() -> None:
    policy = policy_of(tiny_llama())
    seen: dict[int, list[int]] = {row: [] for row in range(len(PROMPTS))}

    def receive(actions: list[tuple[int, int]]) -> None:
        for row, action in actions:
            seen[row].append(action)

    decoding = DecodingConfig(max_new_tokens=12, max_actions=48)
    found = generate(
        policy,
        PROMPTS,
        decoding,
        backspace=True,
        uniforms=UniformSource(2),
        on_actions=receive,
    )
    assert [tuple(seen[row]) for row in range(len(PROMPTS))] == [each.actions for each in found]


def test_stops_when_asked() -> None:
    policy = policy_of(tiny_llama(), backspace=False)
    asked = iter([False, False, False, True])
    found = generate(
        policy,
        PROMPTS,
        DecodingConfig(max_new_tokens=40),
        backspace=False,
        uniforms=UniformSource(8),
        should_stop=lambda: next(asked),
    )
    assert max(len(rollout.actions) for rollout in found) == 3
    assert all(rollout.is_finished or len(rollout.actions) == 3 for rollout in found)


def test_rows_wait_where_the_cache_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(tiny_llama())
    decoding = DecodingConfig(max_new_tokens=12, max_actions=48)
    at_once = generate(policy, PROMPTS, decoding, backspace=True, uniforms=UniformSource(2))
    monkeypatch.setattr("seqmatch.decoding.generation.ROWS_BYTES", 1)
    one_by_one = generate(policy, PROMPTS, decoding, backspace=True, uniforms=UniformSource(2))
    assert one_by_one == at_once


@pytest.mark.parametrize("num_rows", [1, 2, 7, 32])
def test_rows_that_end_make_room(
    policy: Policy, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts that wait are read into freed rows; the naive oracle knows nothing of rows."""
    prompts = PROMPTS * 8
    room = max(map(len, prompts)) + 12 + 1
    monkeypatch.setattr("seqmatch.decoding.generation._row_bytes", lambda *_: room)
    monkeypatch.setattr("seqmatch.decoding.generation.ROWS_BYTES", room * num_rows)
    largest = 0
    add = LivePrefixes.add

    def counting(states: LivePrefixes, fresh: list[tuple[int, ...]]) -> np.ndarray:
        nonlocal largest
        rows = add(states, fresh)
        largest = max(largest, states.num_rows)
        return rows

    monkeypatch.setattr(LivePrefixes, "add", counting)
    decoding = DecodingConfig(max_new_tokens=12, max_actions=48)
    found = generate(policy, prompts, decoding, backspace=True, uniforms=UniformSource(4))
    expected = [
        recomputing_decoder(policy, row, prompt, decoding, 4) for row, prompt in enumerate(prompts)
    ]
    assert [rollout.actions for rollout in found] == expected
    assert largest <= num_rows


def test_prompts_of_very_different_lengths_are_not_padded_together() -> None:
    policy = policy_of(tiny_llama())
    prompts = [(1,) * length for length in (1, 30, 2, 50, 3)]
    decoding = DecodingConfig(max_new_tokens=6, max_actions=30)
    found = generate(policy, prompts, decoding, backspace=True, uniforms=UniformSource(1))
    expected = [
        recomputing_decoder(policy, row, prompt, decoding, 1) for row, prompt in enumerate(prompts)
    ]
    assert [rollout.actions for rollout in found] == expected


def test_a_diverged_policy_is_told_apart() -> None:
    policy = policy_of(tiny_llama())
    with torch.no_grad():
        policy.lm.lm_head.weight.fill_(torch.nan)
    with pytest.raises(DivergedError, match="not finite"):
        generate(policy, PROMPTS, DecodingConfig(), backspace=True, uniforms=UniformSource(2))


def test_trace_shows_what_was_typed_and_what_stands() -> None:
    policy = policy_of(tiny_llama(vocab_size=259))
    backspace_id = policy.space.backspace_id
    text = "aé"
    actions = (*b"x", backspace_id, *text.encode(), 258)
    trace = to_trace(policy, Rollout((257,), actions, True), "question", "aé")
    assert trace.pieces == ("x", "", "a", "", "é", "<eos>")
    assert (trace.text, trace.num_backspaces, trace.is_finished) == (text, 1, True)
    assert trace.reference == text
