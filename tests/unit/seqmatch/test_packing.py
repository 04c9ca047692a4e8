"""Packed rows give what padded rows give: Q, V and gradients; and what a pack is made of."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch.nn import functional
from torch.nn.attention import flex_attention as flex_module
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from seqmatch.config import AdapterConfig
from seqmatch.errors import ConfigError
from seqmatch.gradients import accumulate_gradients
from seqmatch.micro_batches import packed_passes
from seqmatch.objectives import ObjectiveConfig, SequenceMatchConfig, SFTConfig
from seqmatch.packing import Pack, block_mask, pack_mask, packed, unpacked
from seqmatch.packing_check import TOLERANCE, check_packing
from seqmatch.pass_mode import PLAIN, PassMode, Precision
from seqmatch.policy import Policy, load_saved_policy, save_policy
from seqmatch.single_pass import build_batch, is_seen
from seqmatch.types import SinglePassBatch, Trajectory
from tests.architectures import SUPPORTED
from tests.architectures import tiny_model as random_model
from tests.tiny_models import policy_of, tiny_llama

PACKED = PassMode(is_packed=True)
NOT_PACKED = {"gemma2", "gpt2", "gpt_oss"}
"""Whose attention is eager for its soft cap or sinks, or that transformers does not run so."""


def trajectories(policy: Policy, seed: int, count: int) -> list[Trajectory]:
    """Rows of very different lengths, with deletions and chains of them."""
    rng, back, stop = np.random.default_rng(seed), policy.space.backspace_id, policy.space.eos_id
    found = []
    for _ in range(count):
        actions: list[int] = []
        depth = 0
        for _ in range(int(rng.choice([1, 3, 14]))):
            if depth and rng.random() < 0.3:
                actions.append(back)
                depth -= 1
            else:
                actions.append(int(rng.integers(3, 9)))
                depth += 1
        prompt = tuple(rng.integers(3, 9, size=int(rng.integers(1, 4))).tolist())
        found.append(Trajectory(prompt, (*actions, stop), (*actions, stop)))
    return found


def some_batch(policy: Policy, seed: int = 0, count: int = 5) -> SinglePassBatch:
    return build_batch(trajectories(policy, seed, count), policy.space)


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_architecture_packs_or_says_that_it_does_not(name: str) -> None:
    config_class, changes, _ = SUPPORTED[name]
    undropped = {"dropout": 0.0} if name == "opt" else {}
    policy = policy_of(random_model(config_class, {**changes, **undropped})).train()
    if name in NOT_PACKED:
        with pytest.raises(ConfigError, match=r"packing: .* switch packing off"):
            policy.set_pass_mode(PACKED)
        return
    batch = some_batch(policy)
    assert not batch.is_plain
    found = []
    for mode in (PLAIN, PACKED, PassMode(is_checkpointed=True, is_packed=True), PLAIN):
        policy.set_pass_mode(mode)
        values = policy.state_action_values(batch, value_temperature=0.7, with_backspace_q=True)
        torch.autograd.backward(values.values.sin().sum() + values.chosen_q.cos().sum())
        gradients = {
            key: weight.grad.clone()
            for key, weight in policy.named_parameters()
            if weight.grad is not None
        }
        policy.zero_grad()
        found.append((values.values, values.chosen_q, gradients))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("objective", [SFTConfig(), SequenceMatchConfig()], ids=["sft", "sm"])
@pytest.mark.parametrize("max_positions", [10**6, 40])
def test_a_step_has_the_same_loss_terms_and_gradients(
    objective: ObjectiveConfig, max_positions: int
) -> None:
    policy = policy_of(tiny_llama().double())
    data, sampled = trajectories(policy, 1, 7), trajectories(policy, 2, 5)
    if objective.kind == "sft":
        sampled = []
    found = []
    for mode in (PLAIN, PACKED):
        policy.set_pass_mode(mode)
        policy.zero_grad()
        batch = accumulate_gradients(
            policy, objective, data, sampled, beta=0.3, max_positions=max_positions
        )
        gradients = {
            key: weight.grad for key, weight in policy.named_parameters() if weight.grad is not None
        }
        found.append((batch.loss, batch.terms, gradients))
    torch.testing.assert_close(found[1], found[0], atol=1e-9, rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), multiple=st.sampled_from([1, 8, 128]))
def test_rows_and_filling_do_not_see_each_other(seed: int, multiple: int) -> None:
    policy = policy_of(tiny_llama())
    batch = some_batch(policy, seed)
    pack = packed(batch, multiple)
    num_slots = int(batch.is_slot.sum())
    assert len(pack.enters) == -(-num_slots // multiple) * multiple

    expected = torch.block_diag(  # type: ignore[no-untyped-call]
        *(
            one[real][:, real]
            for one, real in zip(is_seen(batch.enters, batch.leaves), batch.is_slot, strict=True)
        ),
        torch.eye(len(pack.enters) - num_slots, dtype=torch.bool),
    )
    seen = is_seen(pack.enters, pack.leaves)
    assert torch.equal(seen, expected[: len(seen), : len(seen)])
    states = pack.input_ids[..., None].double()
    assert torch.equal(
        unpacked(states, pack, batch)[..., 0].long(), batch.input_ids.where(batch.is_slot, 0)
    )


def test_flex_attention_follows_the_rule() -> None:
    """By its own definition, uncompiled; a GPU compiles the same mask and has a backward pass."""
    batch = some_batch(policy_of(tiny_llama()), count=40)
    pack = packed(batch, 128)
    size = len(pack.enters)
    assert size > 128, "several blocks"
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, size, 16) for _ in range(3))
    mask = block_mask(pack)
    found = flex_attention(query, key, value, block_mask=mask)
    dense = pack_mask(pack, torch.float32)
    assert isinstance(dense, torch.Tensor)
    expected = functional.scaled_dot_product_attention(query, key, value, dense)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert mask.sparsity() > 0.0, "blocks in which nothing is seen are left out"


def test_a_policy_trains_through_flex_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU but for the compiler: torch refuses FlexAttention's backward pass on a CPU, where
    its plain form, which autograd follows, is right nevertheless."""
    asked: list[torch.device] = []
    monkeypatch.setattr(
        flex_module, "_validate_device", lambda query, *_: asked.append(query.device)
    )
    policy = policy_of(tiny_llama()).train()
    batch = some_batch(policy, count=30)
    found = []
    for mode in (PLAIN, PACKED):
        policy.set_pass_mode(mode)
        monkeypatch.setattr("seqmatch.policy.pack_for", lambda batch: packed(batch, 128))
        monkeypatch.setattr("seqmatch.policy.pack_mask", lambda pack, _dtype: block_mask(pack))
        with torch.compiler.set_stance("force_eager"):
            values = policy.state_action_values(batch)
            torch.autograd.backward(values.values.sin().sum() + values.chosen_q.cos().sum())
        gradients = {key: weight.grad for key, weight in policy.named_parameters()}
        policy.zero_grad()
        found.append((values.values, values.chosen_q, gradients))
    torch.testing.assert_close(found[1], found[0], atol=2e-5, rtol=2e-5)
    assert len(asked) >= policy.lm_config.num_hidden_layers, "each layer went this way"


@pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention is compiled with g++")
def test_the_compiled_form_follows_the_rule_in_packs_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a CPU torch compiles FlexAttention's forward pass: the same mask by another backend."""
    torch.compiler.reset()
    compiled = torch.compile(create_block_mask)
    monkeypatch.setattr("seqmatch.packing.create_block_mask", compiled)
    monkeypatch.setattr("seqmatch.policy.pack_for", lambda batch: packed(batch, 128))
    monkeypatch.setattr("seqmatch.policy.pack_mask", lambda pack, _dtype: block_mask(pack))
    policy = policy_of(tiny_llama()).eval()
    sizes, before = set(), counters["stats"]["unique_graphs"]
    for seed, count in enumerate((30, 45, 60, 90, 120, 45, 30)):
        batch = some_batch(policy, seed, count)
        sizes.add(len(packed(batch, 128).enters))
        found = []
        for mode in (PLAIN, PACKED):
            policy.set_pass_mode(mode)
            with torch.no_grad():
                values = policy.state_action_values(batch)
            found.append((values.values, values.chosen_q))
        torch.testing.assert_close(found[1], found[0], atol=2e-5, rtol=2e-5)
    assert len(sizes) > 4
    num_compiled = counters["stats"]["unique_graphs"] - before
    assert num_compiled == 2 * 2, "mask and attention, for one size and then for any"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("backspace", [True, False])
def test_a_run_compares_packed_rows_with_padded_ones(
    precision: Precision, backspace: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_llama(), backspace=backspace).train()
    mode = PassMode(precision, is_packed=True)
    policy.set_pass_mode(mode)
    assert check_packing(policy) < TOLERANCE[precision] / 10
    assert policy.pass_mode == mode
    assert all(weight.grad is None for weight in policy.parameters())

    def all_before(pack: Pack, dtype: torch.dtype) -> torch.Tensor:
        """A mask that forgets rows and deletions."""
        size = len(pack.enters)
        hidden = torch.ones(size, size, dtype=torch.bool).triu(1)
        return torch.zeros(size, size, dtype=dtype).masked_fill(hidden, -1e9)[None, None]

    monkeypatch.setattr("seqmatch.policy.pack_mask", all_before)
    with pytest.raises(ConfigError, match=r"packed rows give other values .* switch packing off"):
        check_packing(policy)


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_compares_flex_attention_in_its_own_precision(
    precision: Precision, is_checkpointed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward, but for the compiler; see above."""
    monkeypatch.setattr(flex_module, "_validate_device", lambda *_: None)
    monkeypatch.setattr("seqmatch.policy.pack_for", lambda batch: packed(batch, 128))
    monkeypatch.setattr("seqmatch.policy.pack_mask", lambda pack, _dtype: block_mask(pack))
    policy = policy_of(tiny_llama()).train()
    policy.set_pass_mode(PassMode(precision, is_checkpointed, is_packed=True))
    with torch.compiler.set_stance("force_eager"):
        assert check_packing(policy) < TOLERANCE[precision] / 5


@pytest.mark.parametrize(("dropout", "reason"), [(0.1, "dropout"), (0.0, "backward on CPU")])
def test_what_flex_attention_does_not_compute_is_said_before_the_first_step(
    dropout: float, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_of(tiny_llama()).train()
    for layer in policy.transformer.layers:
        layer.self_attn.attention_dropout = dropout
    policy.set_pass_mode(PACKED)
    monkeypatch.setattr("seqmatch.policy.pack_mask", lambda pack, _dtype: block_mask(pack))
    with pytest.raises(ConfigError, match=rf"on cpu \(.*{reason}.*\); switch packing off"):
        check_packing(policy)


def test_what_is_saved_knows_nothing_of_packing(tmp_path: Path) -> None:
    policy = policy_of(tiny_llama(259))
    policy.adapter = AdapterConfig(kind="full")
    policy.set_pass_mode(PACKED)
    save_policy(policy, tmp_path)
    assert "packed" not in (tmp_path / "config.json").read_text()
    loaded = load_saved_policy(tmp_path, device="cpu", models_dir=tmp_path)
    assert loaded.lm.config._attn_implementation == "sdpa"


lengths_of_rows = st.lists(st.integers(1, 200), min_size=1, max_size=40)


@given(
    data=lengths_of_rows,
    rollouts=st.lists(st.integers(1, 200), max_size=40),
    max_positions=st.integers(200, 4000),
    num_processes=st.integers(1, 3),
)
def test_every_row_is_dealt_to_one_pass_that_memory_suffices_for(
    data: list[int], rollouts: list[int], max_positions: int, num_processes: int
) -> None:
    groups = [data, rollouts]
    passes = packed_passes(groups, max_positions, num_processes=num_processes)
    for number, group in enumerate(groups):
        assert sorted(at for rows in passes for at in rows[number]) == list(range(len(group)))
        assert not group or all(rows[number] for rows in passes)
        assert all(rows[number] == sorted(rows[number]) for rows in passes)
    fewest = min(len(group) for group in groups if group)
    assert len(passes) % num_processes == 0 or len(passes) <= fewest
    sizes = [
        sum(group[at] for group, places in zip(groups, rows, strict=True) for at in places)
        for rows in passes
    ]
    assert max(sizes) <= max_positions or len(passes) + num_processes > fewest
    if sum(map(sum, groups)) <= max_positions and num_processes == 1:
        assert passes == [[list(range(len(group))) for group in groups]]


def test_pairs_are_dealt_together() -> None:
    data, rollouts = [3 + 7 * at % 50 for at in range(20)], [5 + 11 * at % 60 for at in range(20)]
    passes = packed_passes([data, rollouts], 300, is_paired=True)
    assert len(passes) > 2
    assert all(rows[0] == rows[1] for rows in passes)
    assert all(sum(data[at] + rollouts[at] for at in rows[0]) <= 300 for rows in passes)
