"""The unembedding as a module: same names, same logits, Q and V by its own forward, sharded too."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from seqmatch.errors import ModelLoadError
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.soft_q import LogitTransform, SoftHead, transform_of
from seqmatch.types import StateActionValues, Trajectory
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

POP = 11
TRAJECTORIES = [
    Trajectory((1, 2), (3, 4, POP, 4, 10), (3, 7, POP, 4, 10)),
    Trajectory((5, 6, 7, 8, 9), (1, 10), (1, 10)),
]


def tied_llama() -> Any:
    lm = tiny_llama()
    lm.lm_head.weight = lm.model.embed_tokens.weight
    return lm


def llama_with_frozen_head() -> Any:
    lm = tiny_llama()
    lm.lm_head.weight.requires_grad_(False)
    return lm


def values_of(policy: Any, rows: list[Trajectory], **asked: Any) -> StateActionValues:
    found: StateActionValues = policy(build_batch(rows, policy_space(policy)), **asked)
    return found


def policy_space(policy: Any) -> Any:
    return policy.module.space if isinstance(policy, DistributedDataParallel) else policy.space


def loss_of(values: StateActionValues) -> torch.Tensor:
    assert values.tempered_values is not None
    return values.values.sin().sum() + (values.chosen_q - values.tempered_values).square().sum()


@pytest.mark.parametrize("build", [tiny_llama, tied_llama, tiny_gpt2])
def test_parameters_keep_their_names_and_logits(build: Callable[[], Any]) -> None:
    lm = build()
    ids = torch.tensor([[1, 2, 3]])
    names, state = [name for name, _ in lm.named_parameters()], list(lm.state_dict())
    logits = lm(input_ids=ids).logits

    policy = policy_of(lm)

    assert list(policy.trainable_parameters()) == ["backspace_row", *(f"lm.{n}" for n in names)]
    assert sorted(policy.state_dict()) == sorted(["backspace_row", *(f"lm.{n}" for n in state)])
    assert lm.get_output_embeddings() is policy.head
    assert policy_of(lm).head is policy.head
    assert torch.equal(lm(input_ids=ids).logits, logits)
    assert (lm.get_input_embeddings().weight is policy.head.weight) == (build is not tiny_llama)


def test_only_states_of_answers_reach_the_operator() -> None:
    """Prompts of 2 and 5 tokens; answers of 5 and 2 actions, so 6 and 3 states; the rest is not."""
    policy = policy_of(tiny_llama())
    seen = []
    policy.head.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))

    batch = build_batch(TRAJECTORIES, policy.space)
    policy.state_action_values(batch)

    assert batch.input_ids.numel() > 9
    assert seen == [(9, 32)]


def test_an_unembedding_that_is_not_plain_is_refused() -> None:
    class Adapted(nn.Linear):
        """What an adapter makes of it: more than its weight."""

    with pytest.raises(ModelLoadError, match="the unembedding is a Adapted; allowed: a plain"):
        SoftHead.in_place_of(Adapted(2, 3))


SIZES = {
    "vocab_size": 11,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.25,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}


def granite() -> Any:
    return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=4.0))


def cohere() -> Any:
    return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.125))


def gemma2() -> Any:
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0))


@pytest.mark.parametrize(
    ("build", "transform"),
    [
        (granite, LogitTransform(0.25)),
        (cohere, LogitTransform(0.125)),
        (gemma2, LogitTransform(cap=2.0)),
        (tiny_llama, LogitTransform()),
    ],
)
def test_models_that_transform_their_logits_have_the_values_of_their_own(
    build: Callable[[], Any], transform: LogitTransform
) -> None:
    lm = build().eval()
    policy = policy_of(lm)
    assert policy.head.transform == transform_of(lm.config) == transform
    row = Trajectory((1, 2), (3, 4, 10), (3, 4, 10))
    with torch.no_grad():
        own = lm(input_ids=torch.tensor([[1, 2, 3, 4, 10]]), output_hidden_states=True)
        states = own.hidden_states[-1][0, 1:]
        found = policy.state_action_values(build_batch([row], policy.space), with_backspace_q=True)
        decoded = policy.step_logits(states, torch.tensor([False, True, True, True]))
    assert found.backspace_q is not None

    logits = own.logits[0, 1:]
    backspace = states @ row_of(policy).detach()
    if transform.cap is not None:
        backspace = transform.cap * torch.tanh(backspace / transform.cap)
    backspace = backspace * transform.scale
    wanted = torch.cat([logits, backspace[:, None]], dim=1)
    wanted[0, -1] = -torch.inf
    torch.testing.assert_close(decoded, wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.values[0], wanted.logsumexp(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        found.chosen_q[0], wanted[range(3), row.labels], atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(found.backspace_q[0], backspace, atol=1e-5, rtol=1e-5)


# ---- several processes


@contextmanager
def process_group(rank: int, world_size: int, meeting_place: str) -> Iterator[None]:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting_place}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=60),
    )
    yield
    dist.destroy_process_group()


def run_in_processes(work: Callable[..., None], world_size: int, folder: Path) -> None:
    """Runs work(rank, world_size, meeting place) in processes; an error in one is raised here."""
    arguments = (world_size, str(folder / "meeting_place"))
    # Forked: it takes no second to import everything again, and torch has no GPU to lose here.
    start_processes(  # type: ignore[no-untyped-call]
        work, arguments, nprocs=world_size, start_method="fork"
    )


def sharded(policy: Policy, world_size: int) -> Policy:
    """Layers and, where it shares no weight, the head are gathered on their own."""
    mesh = init_device_mesh("cpu", (world_size,))
    for layer in policy.lm.model.layers:
        fully_shard(layer, mesh=mesh)
    if policy.head.weight is not policy.lm.get_input_embeddings().weight:
        fully_shard(policy.head, mesh=mesh)
    fully_shard(policy, mesh=mesh)
    return policy


def check_against_one_process(policy: Any, whole: Policy, rank: int, world_size: int) -> None:
    """Each process has a row of its own; gradients are the mean over processes."""
    asked = {"value_temperature": 0.4}
    wanted = [values_of(whole, [row], **asked) for row in TRAJECTORIES[:world_size]]
    found = values_of(policy, [TRAJECTORIES[rank]], **asked)
    torch.testing.assert_close(found.values, wanted[rank].values)
    torch.testing.assert_close(found.chosen_q, wanted[rank].chosen_q)
    torch.autograd.backward(loss_of(found))
    torch.autograd.backward(sum((loss_of(one) / world_size for one in wanted), torch.zeros(())))
    weights = dict(whole.named_parameters())
    for name, weight in policy.named_parameters():
        own = weights[name.removeprefix("module.")]
        gradient = weight.grad
        assert (gradient is None) == (own.grad is None) == (not own.requires_grad)
        if gradient is not None:
            full = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            torch.testing.assert_close(full, own.grad, atol=1e-5, rtol=1e-4)


def check_sharded(rank: int, world_size: int, meeting_place: str) -> None:
    with process_group(rank, world_size, meeting_place):
        for build in (tiny_llama, tied_llama, llama_with_frozen_head):
            whole = policy_of(build())
            policy = sharded(copy.deepcopy(whole), world_size)
            assert all(hasattr(weight, "full_tensor") for weight in policy.parameters())
            check_against_one_process(policy, whole, rank, world_size)


def check_replicated(rank: int, world_size: int, meeting_place: str) -> None:
    with process_group(rank, world_size, meeting_place):
        for build in (tiny_llama, tied_llama, llama_with_frozen_head):
            whole = policy_of(build())
            policy = DistributedDataParallel(copy.deepcopy(whole))
            check_against_one_process(policy, whole, rank, world_size)


@pytest.mark.parametrize("world_size", [1, 2])
def test_sharded_weights_give_the_same_values_and_gradients(
    world_size: int, tmp_path: Path
) -> None:
    run_in_processes(check_sharded, world_size, tmp_path)


def test_replicated_weights_give_the_same_values_and_gradients(tmp_path: Path) -> None:
    run_in_processes(check_replicated, 2, tmp_path)
