"""Per-row rollback equals reading the surviving prefix afresh."""

import numpy as np
import pytest
import torch

from seqmatch.kv_cache import LivePrefixes
from seqmatch.policy import Policy
from tests.tiny_models import policy_of, tiny_gpt2, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1), (2, 2)]
MAX_DEPTH = 40


@pytest.fixture(params=[tiny_llama, tiny_gpt2], ids=["llama", "gpt2"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return policy_of(request.param())


def recomputed(policy: Policy, prefix: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        return policy.hidden_states(torch.tensor([prefix]))[0, -1]


def check(policy: Policy, states: LivePrefixes, texts: list[tuple[int, ...]]) -> None:
    found = states.current(np.arange(len(states)))
    for row, text in enumerate(texts):
        torch.testing.assert_close(found[row], recomputed(policy, text), atol=1e-4, rtol=0.0)


def test_random_tapes_of_pushes_and_pops(policy: Policy) -> None:
    rng = np.random.default_rng(0)
    states = LivePrefixes(policy, PROMPTS, MAX_DEPTH)
    texts = list(PROMPTS)
    floors = [len(prompt) for prompt in PROMPTS]
    num_pops = 0
    for round_number in range(40):
        for row in range(len(texts)):
            while len(texts[row]) > floors[row] and rng.random() < 0.4:
                states.pop(np.array([row]))
                texts[row] = texts[row][:-1]
                num_pops += 1
        check(policy, states, texts)
        pushing = np.flatnonzero(rng.random(len(texts)) < 0.8)
        tokens = rng.integers(0, 11, size=len(pushing))
        states.push(pushing, tokens)
        for row, token in zip(pushing.tolist(), tokens.tolist(), strict=True):
            texts[row] = (*texts[row], token)
        check(policy, states, texts)
        if round_number == 25:
            kept = np.array([3, 0, 2])
            states.keep(kept)
            texts = [texts[row] for row in kept]
            floors = [floors[row] for row in kept]
    assert num_pops > 30


def test_a_row_fills_its_room_to_the_last_slot(policy: Policy) -> None:
    states = LivePrefixes(policy, PROMPTS, 3)
    texts = list(PROMPTS)
    every = np.arange(len(PROMPTS))
    for token in (3, 1, 4):
        states.push(every, np.full(len(PROMPTS), token))
        texts = [(*text, token) for text in texts]
    states.push(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    check(policy, states, texts)


def test_the_prompt_cannot_be_popped(policy: Policy) -> None:
    states = LivePrefixes(policy, PROMPTS, 3)
    with pytest.raises(ValueError, match="end of its prompt"):
        states.pop(np.array([1]))
