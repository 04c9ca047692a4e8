"""LoRA adapters added to the weights of their layers, for as long as a model only reads.

An unmerged adapter adds two products to each linear layer of every step of decoding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

if TYPE_CHECKING:
    from seqmatch.policy import Policy

CPU_COPY_BYTES = 4 << 30
SHARE_OF_GPU = 8
"""A GPU's memory has room for copies of a part of so many."""


def most_copied(device: torch.device) -> int:
    """Returns how many bytes the copies of weights may take; with larger models none are made.

    Not by what is free at the moment: a run that starts again decodes by the same sums.
    """
    if device.type != "cuda":
        return CPU_COPY_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // SHARE_OF_GPU


def can_merge(layer: nn.Module) -> bool:
    """Tells whether a layer has plain adapters only, and weights that are whole, not a shard."""
    return (
        isinstance(layer, LoraLinear)
        and not layer.lora_variant
        and type(getattr(layer.get_base_layer(), "weight", None)) is nn.Parameter
    )


def merged_weight(layer: Any) -> Tensor:
    """Returns the weight of a layer that `can_merge`, with its adapters added."""
    weight: Tensor = layer.get_base_layer().weight
    if not layer.merged and not layer.disable_adapters:
        for name in layer.active_adapters:
            weight = _added(layer, name, weight)
    return weight.detach()


def _added(layer: Any, name: str, weight: Tensor) -> Tensor:
    """A weight and an adapter; in one pass over it where PEFT would make three."""
    down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
    if layer.fan_in_fan_out or up.dtype != weight.dtype:
        total: Tensor = weight + layer.get_delta_weight(name)
        return total
    return torch.addmm(weight, up, down, alpha=layer.scaling[name])


class MergedAdapters:
    """Merged copies of a policy's weights, which take the places of the plain ones on request.

    The plain ones are put back as they were, bit for bit, which PEFT's own unmerging does not do.
    """

    def __init__(self, policy: "Policy") -> None:
        """Copies the weights as they are now, or none where they take too much memory."""
        layers: list[Any] = [each for each in policy.lm.modules() if isinstance(each, LoraLayer)]
        size = sum(each.get_base_layer().weight.nbytes for each in layers if can_merge(each))
        self._merged: list[tuple[Any, Tensor]] = []
        if all(map(can_merge, layers)) and size <= most_copied(policy.device):
            with torch.no_grad():
                self._merged = [(each, merged_weight(each)) for each in layers]

    def __len__(self) -> int:
        """How many layers have a merged copy."""
        return len(self._merged)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Lets the layers read with the merged weights, while it lasts."""
        plain = [(each, each.get_base_layer().weight.data) for each, _ in self._merged]
        names = [each.merged_adapters for each, _ in self._merged]
        try:
            for layer, weight in self._merged:
                layer.get_base_layer().weight.data = weight
                if not layer.disable_adapters:
                    layer.merged_adapters = list(layer.active_adapters)
            yield
        finally:
            for (layer, weight), before in zip(plain, names, strict=True):
                layer.get_base_layer().weight.data = weight
                layer.merged_adapters = before
