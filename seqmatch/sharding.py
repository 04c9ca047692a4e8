"""A policy whose weights, gradients and optimiser are divided among processes (FSDP2).

For full fine-tuning that does not fit one device. Each block of the model is gathered for its own
forward and backward pass and divided again; gradients are added up, not averaged, since every pass
is weighted as a part of the whole batch. The embedding and the unembedding, which the head reads
outside of any module's forward, stay whole in each process, as the backspace row does.

Source: PyTorch's `fully_shard`.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from seqmatch.distributed import World
from seqmatch.errors import ConfigError
from seqmatch.optimization import optimizer_tensors, whole
from seqmatch.policy import Policy


@dataclass(frozen=True)
class Kept:
    """What of a policy and its optimiser goes into files, whole and in host memory."""

    policy: Policy
    moments: dict[str, Tensor]
    """As `optimizer_tensors` names them."""


class Shards:
    """The divided weights of a policy, and the ways to have them whole."""

    def __init__(self, policy: Policy, world: World, device: torch.device) -> None:
        """Divides a policy, which is in host memory and the same in every process.

        The main process keeps a whole copy in host memory, which is filled to be saved.

        Raises:
            ConfigError: The model has no blocks to divide.
        """
        self._policy = policy
        self._copy = copy.deepcopy(policy) if world.is_main else None
        mesh = init_device_mesh(device.type, (world.size,))
        backbone = policy.transformer
        blocks = [each for each in backbone.modules() if isinstance(each, nn.ModuleList)]
        if not blocks:
            raise ConfigError(
                f"parallelism 'shard' divides a model block by block, and {policy.base_model} has "
                "no list of blocks; choose 'replicate'"
            )
        for block in blocks[0]:
            fully_shard(block, mesh=mesh)
        kept_whole = {policy.head_weight, backbone.get_input_embeddings().weight}
        fully_shard(backbone, mesh=mesh, ignored_params=kept_whole)
        for module in self._modules():
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        policy.to(device)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Gathers all weights for a while, so that each process computes without the others.

        They must fit the device without gradients. Every process must enter, and leave.
        """
        for module in self._modules():
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        try:
            yield
        finally:
            for module in self._modules():
                module.reshard()
                module.set_reshard_after_forward(True, recurse=False)

    @torch.no_grad()
    def collected(self, optimizer: torch.optim.Optimizer) -> Kept:
        """Gathers what is to be saved into the main process; every process must call this."""
        moments = optimizer_tensors(optimizer, self._policy.trainable_parameters())
        own = dict(self._policy.named_parameters())
        target = dict(self._copy.named_parameters()) if self._copy is not None else {}
        for name, parameter in own.items():
            gathered = whole(parameter.detach())
            if name in target:
                target[name].copy_(gathered)
        return Kept(self._copy or self._policy, moments)

    def _modules(self) -> list[FSDPModule]:
        return [each for each in self._policy.modules() if isinstance(each, FSDPModule)]
