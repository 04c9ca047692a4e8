"""Whether packed rows give what padded rows give on the device of a run, asked before its steps.

On a GPU attention within a pack is compiled for that device, by versions of torch and Triton that
no test of ours has met. So a run that packs first computes a few rows both ways.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from seqmatch.errors import ConfigError
from seqmatch.pass_mode import PassMode
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.types import SinglePassBatch, Trajectory

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Far above what rounding does to states and gradients after some tens of layers, and far below
what a token that is seen by mistake, or not seen, does: about 1."""
LENGTHS = (200, 3, 90)
"""Actions of the rows: together more than two of FlexAttention's blocks."""
_DELETED = 0.3


def check_packing(policy: Policy) -> float:
    """Returns how far packed rows are off padded ones, in the mode that the policy has.

    Args:
        policy: A policy whose pass mode is packed. Its gradients are dropped.

    Raises:
        ConfigError: It is more than rounding, or attention of packs cannot be computed here.
    """
    try:
        error = packing_error(policy)
    except (TorchDynamoException, NotImplementedError, ValueError) as reason:
        raise ConfigError(
            f"packing: attention of packed rows cannot be computed on {policy.device} "
            f"({' '.join(str(reason).split())[:300]}); switch packing off"
        ) from reason
    if not error <= TOLERANCE[policy.pass_mode.precision]:
        raise ConfigError(
            f"packing: on {policy.device} packed rows give other values than padded ones (off by "
            f"{error:.0e} of their size); switch packing off"
        )
    return error


def packing_error(policy: Policy) -> float:
    """Returns the larger relative difference, by norm, of hidden states and of gradients' norms.

    Of random rows of very different lengths, with deletions where the policy has the action.
    """
    mode = policy.pass_mode
    batch = build_batch(_rows(policy), policy.space, device=policy.device)
    try:
        padded, packed = (
            _states_and_norms(policy, batch, replace(mode, is_packed=is_packed))
            for is_packed in (False, True)
        )
    finally:
        policy.set_pass_mode(mode)
        policy.zero_grad(set_to_none=True)
    return max(
        float((one - other).norm() / one.norm()) for one, other in zip(padded, packed, strict=True)
    )


def _states_and_norms(
    policy: Policy, batch: SinglePassBatch, mode: PassMode
) -> tuple[Tensor, Tensor]:
    """The states of all slots, and the norms of the gradients of a sum over them."""
    policy.set_pass_mode(mode)
    policy.zero_grad(set_to_none=True)
    states = policy.slot_states(batch)[batch.is_slot]
    weights = torch.linspace(-1.0, 1.0, states.shape[1], device=states.device)
    torch.autograd.backward((states * weights).sum())
    gradients = [each.grad for each in policy.trainable_parameters().values()]
    return states.detach(), torch.stack([each.norm() for each in gradients if each is not None])


def _rows(policy: Policy) -> Sequence[Trajectory]:
    rng, space = np.random.default_rng(0), policy.space
    tokens = [at for at in range(min(space.vocab_size, 1000)) if at not in space.unpushable]
    limit = policy.max_positions or max(LENGTHS)
    rows = []
    for length in LENGTHS:
        actions: list[int] = []
        depth = 0
        while len(actions) + 2 < min(length, limit):
            is_deletion = space.has_backspace and depth > 0 and rng.random() < _DELETED
            actions.append(space.backspace_id if is_deletion else int(rng.choice(tokens)))
            depth += -1 if is_deletion else 1
        rows.append(Trajectory((tokens[0],), (*actions, space.eos_id), (*actions, space.eos_id)))
    return rows
