"""Precision and checkpointing change how a masked pass is computed, never what it computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from seqmatch.architectures import check_decoding
from seqmatch.config import AdapterConfig
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import generate
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.discriminators.beside_policy import second_adapter
from seqmatch.errors import ConfigError
from seqmatch.pass_mode import PLAIN, PassMode, plain_passes, resolved_precision
from seqmatch.policy import Policy, load_policy
from seqmatch.scratch_model import byte_llama
from seqmatch.single_pass import build_batch
from seqmatch.types import SinglePassBatch, StateActionValues, Trajectory
from tests.architectures import SUPPORTED, save_base, tiny_model
from tests.full_logits import from_full_logits
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

HALF, CHECKPOINTED = PassMode("bfloat16"), PassMode(is_checkpointed=True)
BOTH = PassMode("bfloat16", is_checkpointed=True)
CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
ROUNDING = 2.0**-8
"""Largest relative error of a number rounded to bfloat16."""


def rows(policy: Policy, *, with_mistakes: bool = True) -> list[Trajectory]:
    """Rows of different lengths, by default with tokens that are taken back."""
    pop, end = policy.space.backspace_id, policy.space.eos_id
    if not with_mistakes:
        return [Trajectory((1, 2), (3, 4, end), (3, 4, end)), Trajectory((5,), (end,), (end,))]
    return [
        Trajectory((1, 2), (3, 4, pop, 4, end), (3, 7, pop, 4, end)),
        Trajectory((5,), (6, 7, pop, pop, 8, end), (6, 7, pop, pop, 8, end)),
        Trajectory((9, 9, 9), (1, end), (1, end)),
    ]


def loss_of(found: StateActionValues) -> Tensor:
    loss: Tensor = found.values.sin().sum() + found.chosen_q.cos().sum()
    for further in (found.tempered_values, found.backspace_q):
        loss = loss if further is None else loss + further.sin().sum()
    return loss


def gradients_of(policy: Policy) -> dict[str, Tensor]:
    found = {
        name: weight.grad.clone()
        for name, weight in policy.named_parameters()
        if weight.grad is not None
    }
    policy.zero_grad(set_to_none=True)
    return found


def gradients(
    policy: Policy, mode: PassMode, batch: SinglePassBatch
) -> tuple[StateActionValues, dict[str, Tensor]]:
    policy.set_pass_mode(mode)
    found = policy.state_action_values(batch, value_temperature=0.7, with_backspace_q=True)
    torch.autograd.backward(loss_of(found))
    return found, gradients_of(policy)


def assert_same_gradients(policy: Policy) -> None:
    for with_mistakes in (True, False):
        batch = build_batch(rows(policy, with_mistakes=with_mistakes), policy.space)
        assert batch.is_plain == (not with_mistakes)
        (kept, expected), (again, found) = (
            gradients(policy, mode, batch) for mode in (PLAIN, CHECKPOINTED)
        )
        torch.testing.assert_close(again.values, kept.values, rtol=1e-6, atol=1e-6)
        assert found.keys() == expected.keys() == policy.trainable_parameters().keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6)


def loaded(lm: Any, folder: Path, adapter: AdapterConfig) -> Policy:
    """A policy as runs have it: without dropout, in training mode."""
    base = str(save_base(lm, folder))
    policy = load_policy(
        base, adapter, True, seed=0, device="cpu", models_dir=folder, allowed=(base,)
    )
    return policy.train()


def lora_policy(folder: Path) -> Policy:
    """A LoRA whose second matrices are not zero, so that all of it has a gradient."""
    adapter = AdapterConfig(kind="lora", rank=2, scaling=4)
    policy = loaded(tiny_model("Llama", {}), folder, adapter)
    for name, weight in policy.trainable_parameters().items():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return policy


@pytest.mark.parametrize("name", SUPPORTED)
def test_checkpointing_leaves_the_gradients_as_they_are(name: str, tmp_path: Path) -> None:
    config_class, changes, _ = SUPPORTED[name]
    lm = tiny_model(config_class, changes)
    assert_same_gradients(loaded(lm, tmp_path, AdapterConfig(kind="full")))


def test_gradients_reach_an_adapter_through_frozen_blocks_that_run_again(tmp_path: Path) -> None:
    policy = lora_policy(tmp_path)
    assert_same_gradients(policy)
    embedded = policy.transformer.get_input_embeddings()(torch.tensor([1]))
    assert not embedded.requires_grad, "the usual hook of transformers would cost a gradient"


def kept_bytes(policy: Policy, mode: PassMode, batch: SinglePassBatch) -> int:
    """What a pass keeps for backward, weights left out and each piece of memory once."""
    weights = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in weights:
            kept[address] = tensor
        return tensor

    policy.set_pass_mode(mode)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        hidden = policy.slot_states(batch)
    assert hidden.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("mode", [CHECKPOINTED, BOTH])
def test_with_checkpointing_a_block_keeps_its_input_alone(mode: PassMode) -> None:
    policy = policy_of(byte_llama(0), backspace=False).train()
    config = policy.lm_config
    batches = [
        build_batch([Trajectory((1, 2), (3,) * 30, (3,) * 30)] * count, policy.space)
        for count in (2, 4)
    ]
    # Of one batch over that of another, so that weights rounded to halves do not count.
    kept, plain = (
        kept_bytes(policy, each, batches[1]) - kept_bytes(policy, each, batches[0])
        for each in (mode, PLAIN)
    )
    positions = batches[0].input_ids.numel()
    # Beside the inputs: two of the last norm, and positions and other single numbers.
    assert kept <= 4 * positions * ((config.num_hidden_layers + 2) * config.hidden_size + 8)
    of_layer = 8 * config.hidden_size + 4 * config.intermediate_size
    assert plain > 4 * positions * config.num_hidden_layers * of_layer


def test_blocks_that_run_again_leave_a_decoder_its_cache() -> None:
    """In training mode transformers drops the cache of a block that is to run again."""
    policy = policy_of(byte_llama(0)).train()
    decoding = DecodingConfig(max_new_tokens=12, max_actions=24)

    def answers() -> Any:
        return generate(policy, [(5, 6), (7,)], decoding, backspace=True, uniforms=UniformSource(3))

    expected = answers()
    policy.set_pass_mode(BOTH)
    torch.autograd.backward(
        loss_of(policy.state_action_values(build_batch(rows(policy), policy.space)))
    )
    assert answers() == expected
    policy.set_pass_mode(CHECKPOINTED)
    check_decoding(policy, "with blocks that run again")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_gradients_in_half_precision_are_as_near_as_rounding_allows(
    build: Callable[..., Any], seed: int
) -> None:
    policy, exact = policy_of(build(seed=seed)).train(), policy_of(build(seed=seed)).double()
    batch = build_batch(rows(policy), policy.space)
    _, expected = gradients(exact, PLAIN, batch)
    _, found = gradients(policy, HALF, batch)
    _, again = gradients(policy, BOTH, batch)
    # A product rounds two factors and its result. Two blocks of 8 products in a row and a head,
    # there and back: errors that all have one sign would add up to this.
    most = 2 * (2 * 8 + 1) * 3 * ROUNDING
    assert most < 0.5, "a gradient that is half of what it should be is noticed"
    assert found.keys() == again.keys() == expected.keys()
    for name, gradient in expected.items():
        error = (found[name].double() - gradient).norm() / gradient.norm()
        assert 0 < error < most, name
        torch.testing.assert_close(again[name], found[name], rtol=1e-6, atol=1e-6)


def test_the_head_rounds_hidden_states_alone() -> None:
    """Q, V and their gradients from rounded states equal those of exact logits of these states."""
    policy = policy_of(tiny_llama())
    batch = build_batch(rows(policy), policy.space)
    policy.set_pass_mode(HALF)
    hidden = policy.slot_states(batch).detach().requires_grad_()
    found = policy.state_action_values(batch, hidden=hidden)
    row, time = batch.is_action.nonzero(as_tuple=True)
    visited = hidden.detach()[row, batch.state_slot[row, time]].bfloat16().double()
    weights = [policy.head_weight, row_of(policy)]
    weight, row_weight = (each.detach().double().requires_grad_() for each in weights)
    q, v = from_full_logits(
        visited,
        weight,
        None,
        row_weight,
        batch.labels[row, time],
        batch.can_delete[row, time],
        torch.ones_like(row, dtype=torch.bool),
    )
    torch.testing.assert_close(found.chosen_q[row, time].double(), q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.values[row, time].double(), v, rtol=1e-5, atol=1e-5)
    torch.autograd.backward(q.cos().sum() + v.sin().sum())
    chosen, values = found.chosen_q[row, time], found.values[row, time]
    torch.autograd.backward(chosen.cos().sum() + values.sin().sum())
    for own, exact in zip(weights, (weight, row_weight), strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
def test_what_leaves_a_pass_in_half_precision_is_float32(build: Callable[..., Any]) -> None:
    policy = policy_of(build()).train()
    batch = build_batch(rows(policy), policy.space)
    (plain, _), (half, found) = (gradients(policy, mode, batch) for mode in (PLAIN, HALF))
    for each in ("chosen_q", "values", "tempered_values", "backspace_q"):
        numbers = getattr(half, each)
        assert numbers.dtype == torch.float32
        assert not torch.equal(numbers, getattr(plain, each)), "the pass was not rounded"
        assert not torch.equal(numbers, numbers.bfloat16().float()), "the sums were rounded"
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    assert policy.slot_states(batch).dtype == torch.float32
    with plain_passes(policy):
        torch.testing.assert_close(
            policy.state_action_values(batch).values, plain.values, rtol=0, atol=0
        )
    assert policy.pass_mode == HALF


def test_a_second_adapter_is_read_as_its_policy_is(tmp_path: Path) -> None:
    policy = lora_policy(tmp_path)
    policy.set_pass_mode(BOTH)
    second = second_adapter(policy, seed=1)
    assert second.pass_mode == BOTH
    batch = build_batch(rows(policy, with_mistakes=False), second.space)
    second.train()
    with policy.lm.disable_adapter():
        torch.testing.assert_close(second.slot_states(batch), policy.slot_states(batch))
    torch.autograd.backward(second.slot_states(batch).sum())
    assert gradients_of(second).keys() == second.trainable_parameters().keys()
    assert not gradients_of(policy)


@pytest.mark.parametrize(
    ("asked", "device", "gpu_has_it", "expected"),
    [
        ("auto", CPU, True, "float32"),
        ("bfloat16", CPU, False, "bfloat16"),
        ("float32", CPU, True, "float32"),
        ("auto", GPU, True, "bfloat16"),
        ("auto", GPU, False, "float32"),
        ("bfloat16", GPU, True, "bfloat16"),
        ("float32", GPU, True, "float32"),
    ],
)
def test_auto_is_what_suits_the_device(
    asked: Literal["auto", "float32", "bfloat16"],
    device: torch.device,
    gpu_has_it: bool,
    expected: str,
) -> None:
    assert resolved_precision(asked, device, lambda _: gpu_has_it) == expected


def test_a_gpu_without_bfloat16_is_told() -> None:
    with pytest.raises(ConfigError, match="cuda:1 does not compute in"):
        resolved_precision("bfloat16", GPU, lambda _: False)


def test_a_model_that_cannot_run_blocks_again_is_told() -> None:
    lm = tiny_llama()
    lm.supports_gradient_checkpointing = False
    policy = policy_of(lm)
    with pytest.raises(ConfigError, match="gradient_checkpointing: tiny cannot"):
        policy.set_pass_mode(CHECKPOINTED)
    assert policy.pass_mode == PLAIN
