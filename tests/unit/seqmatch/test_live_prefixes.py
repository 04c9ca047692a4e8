"""Per-row rollback equals reading the surviving prefix afresh, on scripted tapes."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer

from seqmatch.decoding.fused_reader import can_fuse
from seqmatch.decoding.live_prefixes import RING_DEPTHS, LivePrefixes
from seqmatch.decoding.merged_adapters import MergedAdapters
from seqmatch.policy import Policy
from tests.architectures import SUPPORTED
from tests.architectures import tiny_model as random_model
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1), (2, 2)]
MAX_DEPTH = 16
FUSED = ["llama", "llama-tied", "llama-dynamic-rope", "qwen2", "qwen3", "mistral-windowed"]
OTHERS = ["gemma2", "phi3", "gpt2"]


def tiny_model(name: str) -> Any:
    config_class, changes, _ = SUPPORTED[name]
    return random_model(config_class, changes)


def with_adapter(lm: Any) -> Any:
    """Adapters that change what the model says."""
    torch.manual_seed(3)
    wrapped: Any = get_peft_model(lm, LoraConfig(r=3, lora_alpha=5, target_modules="all-linear"))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn_like(weight) * 0.2
    return wrapped


def prefixes(policy: Policy, num_rows: int, *, fused: bool = True) -> LivePrefixes:
    return LivePrefixes(
        policy, num_rows=num_rows, longest_prompt=6, max_depth=MAX_DEPTH, fused=fused
    )


def recomputed(policy: Policy, text: tuple[int, ...]) -> torch.Tensor:
    """The logits in the state of a text by the model's own forward pass, backspace's last."""
    with torch.no_grad():
        output = policy.lm(input_ids=torch.tensor([text]), output_hidden_states=True)
        backspace = policy.head.transform.of(output.hidden_states[-1][0, -1] @ row_of(policy))
        return torch.cat([output.logits[0, -1], backspace[None]])


class Tape:
    """Random pushes, pops, ends and refills, and what the texts must be after them."""

    def __init__(self, policy: Policy, num_rows: int, *, fused: bool) -> None:
        self.policy, self.num_rows = policy, num_rows
        self.rng = np.random.default_rng(num_rows)
        self.states = prefixes(policy, num_rows, fused=fused)
        self.texts: list[tuple[int, ...]] = []
        self.floors: list[int] = []
        self.num_pops = self.num_removed = self.longest_chain = 0

    def fill(self) -> None:
        count = self.num_rows - len(self.texts)
        prompts = [PROMPTS[at] for at in self.rng.integers(0, len(PROMPTS), size=count)]
        if prompts:
            self.states.add(prompts)
            self.texts += prompts
            self.floors += [len(prompt) for prompt in prompts]

    def pop(self) -> None:
        for row in range(len(self.texts)):
            # Now and then a chain that outruns the ring.
            share = 0.95 if self.rng.random() < 0.1 else 0.3
            chain = 0
            while len(self.texts[row]) > self.floors[row] and self.rng.random() < share:
                self.states.pop(np.array([row]))
                self.texts[row] = self.texts[row][:-1]
                self.num_pops, chain = self.num_pops + 1, chain + 1
                if self.rng.random() < 0.5:
                    self.check([row])
            self.longest_chain = max(self.longest_chain, chain)

    def push(self) -> None:
        is_full = self.states.depth >= MAX_DEPTH
        pushing = np.flatnonzero((self.rng.random(len(self.texts)) < 0.9) & ~is_full)
        tokens = self.rng.integers(0, 11, size=len(pushing))
        self.states.push(pushing, tokens)
        for row, token in zip(pushing.tolist(), tokens.tolist(), strict=True):
            self.texts[row] = (*self.texts[row], token)

    def remove(self) -> None:
        rows = np.flatnonzero(self.rng.random(len(self.texts)) < 0.15)
        if not rows.size:
            return
        sources, targets = self.states.remove(rows)
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            self.texts[target], self.floors[target] = self.texts[source], self.floors[source]
        del self.texts[self.states.num_rows :], self.floors[self.states.num_rows :]
        self.num_removed += len(rows)

    def check(self, rows: list[int]) -> None:
        found = self.states.logits(np.array(rows))
        expected = torch.stack([recomputed(self.policy, self.texts[row]) for row in rows])
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    def run(self, rounds: int) -> None:
        for _ in range(rounds):
            self.fill()
            self.check(list(range(len(self.texts))))
            self.push()
            self.check(list(range(len(self.texts))))
            self.pop()
            self.remove()
        assert self.num_pops > rounds // 4
        assert self.num_removed


@pytest.mark.parametrize("num_rows", [1, 3, 32])
@pytest.mark.parametrize("name", FUSED + OTHERS)
def test_tapes(name: str, num_rows: int) -> None:
    policy = policy_of(tiny_model(name))
    assert can_fuse(policy) == (name in FUSED)
    tape = Tape(policy, num_rows, fused=True)
    tape.run(rounds={1: 60, 3: 25, 32: 6}[num_rows])


def test_depths_that_nobody_asked_about_are_computed_when_they_are_uncovered() -> None:
    policy = policy_of(tiny_llama())
    states = LivePrefixes(policy, num_rows=1, longest_prompt=3, max_depth=20)
    row = states.add([(1, 2, 3)])
    for token in (4, 5, 6, 7):
        states.push(row, np.array([token]))
        states.logits(row)
    for _ in range(4):
        states.pop(row)
    for token in (8, 9):  # without asking between
        states.push(row, np.array([token]))
    for text in ((1, 2, 3, 8, 9), (1, 2, 3, 8), (1, 2, 3)):
        expected = recomputed(policy, text)[None]
        torch.testing.assert_close(states.logits(row), expected, atol=1e-5, rtol=1e-5)
        if len(text) > 3:
            states.pop(row)


def test_a_chain_of_pops_may_outrun_the_ring() -> None:
    tape = Tape(policy_of(tiny_llama()), 4, fused=True)
    tape.run(rounds=60)
    assert tape.longest_chain > RING_DEPTHS


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", *OTHERS])
def test_adapters(name: str) -> None:
    """They are merged for decoding, by either reader; the policy's own weights stay."""
    policy = policy_of(with_adapter(tiny_model(name)))
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    assert can_fuse(policy) == (name in FUSED)
    Tape(policy, 4, fused=True).run(rounds=20)
    assert all(torch.equal(value, before[key]) for key, value in policy.state_dict().items())


@pytest.mark.parametrize("name", OTHERS)
def test_merged_weights_are_there_while_a_model_reads_and_no_longer(name: str) -> None:
    policy = policy_of(with_adapter(tiny_model(name)))
    ids = torch.tensor([[1, 2, 3]])
    adapters = MergedAdapters(policy)
    layers = [each for each in policy.lm.modules() if isinstance(each, LoraLayer)]
    assert len(adapters) == len(layers) > 0
    with torch.no_grad():
        apart = policy.hidden_states(ids)
        with adapters.in_place():
            assert all(layer.merged for layer in layers)
            torch.testing.assert_close(policy.hidden_states(ids), apart, atol=1e-5, rtol=1e-5)
        assert not any(layer.merged for layer in layers)
        assert torch.equal(policy.hidden_states(ids), apart)
        with policy.lm.disable_adapter():
            base = policy.hidden_states(ids)
            assert not torch.allclose(base, apart, atol=1e-3)
            with MergedAdapters(policy).in_place():
                assert torch.equal(policy.hidden_states(ids), base)


def test_adapters_of_other_kinds_and_large_models_are_not_merged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = LoraConfig(r=3, target_modules="all-linear", use_dora=True)
    other = policy_of(get_peft_model(tiny_model("phi3"), config))
    assert len(MergedAdapters(other)) == 0
    policy = policy_of(with_adapter(tiny_model("phi3")))
    monkeypatch.setattr("seqmatch.decoding.merged_adapters.CPU_COPY_BYTES", 1000)
    assert len(MergedAdapters(policy)) == 0
    assert not can_fuse(policy_of(tiny_llama()))


@pytest.mark.parametrize("at_once", [1, 7, 12, 10**6])
def test_prompts_are_read_some_rows_at_a_time(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqmatch.decoding.fused_reader.PROMPT_TOKENS", at_once)
    policy = policy_of(tiny_llama())
    states = prefixes(policy, 8)
    rows = np.concatenate([states.add(PROMPTS), states.add(PROMPTS[1:3])])
    texts = [*PROMPTS, *PROMPTS[1:3]]
    states.push(rows, np.arange(1, 7))
    expected = [recomputed(policy, (*text, at + 1)) for at, text in enumerate(texts)]
    torch.testing.assert_close(states.logits(rows), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_both_readers_give_the_same_states() -> None:
    policy = policy_of(tiny_llama())
    found = []
    for fused in (True, False):
        states = prefixes(policy, 4, fused=fused)
        rows = states.add(PROMPTS)
        states.push(rows, np.array([1, 2, 3, 4]))
        found.append(states.current(rows))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_in_float64_nothing_but_rounding_is_left() -> None:
    policy = policy_of(tiny_llama().double())
    states = prefixes(policy, 4)
    rows = states.add(PROMPTS)
    states.push(rows, np.array([1, 2, 3, 4]))
    expected = torch.stack([recomputed(policy, (*text, at + 1)) for at, text in enumerate(PROMPTS)])
    torch.testing.assert_close(states.logits(rows), expected, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_row_fills_its_room_to_the_last_slot(make: Any) -> None:
    policy = policy_of(make())
    states = LivePrefixes(policy, num_rows=4, longest_prompt=6, max_depth=3)
    texts = list(PROMPTS)
    every = states.add(PROMPTS)
    for token in (3, 1, 4):
        states.push(every, np.full(len(PROMPTS), token))
        texts = [(*text, token) for text in texts]
    states.push(np.array([], dtype=np.int64), np.array([], dtype=np.int64))
    expected = torch.stack([recomputed(policy, text) for text in texts])
    torch.testing.assert_close(states.logits(every), expected, atol=1e-4, rtol=1e-4)


def test_the_prompt_cannot_be_popped() -> None:
    states = prefixes(policy_of(tiny_llama()), 4)
    states.add(PROMPTS)
    with pytest.raises(ValueError, match="end of its prompt"):
        states.pop(np.array([1]))
