"""How the masked passes of a policy are computed: in which precision, and what waits for backward.

In bfloat16 the products of a pass are made from rounded copies of the weights (`torch.autocast`);
the weights themselves, their gradients and the optimiser stay in float32. With checkpointing a
block of the model keeps its input alone and runs a second time in the backward pass. Both are of
masked passes only: a decoder's cache of keys and values is in the type of the weights, and blocks
that are to run again would drop it. Packing (`packing`) is of masked passes too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from seqmatch.errors import ConfigError

if TYPE_CHECKING:
    from seqmatch.policy import Policy

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class PassMode:
    """How masked passes are computed."""

    precision: Precision = "float32"
    """Of the products; weights and sums are float32 or wider."""
    is_checkpointed: bool = False
    """Whether blocks run again in the backward pass instead of keeping what they computed."""
    is_packed: bool = False
    """Whether the rows of a batch go through the model as one row without padding."""

    @property
    def half(self) -> torch.dtype | None:
        """The type that products are made in; None where it is that of the weights."""
        return torch.bfloat16 if self.precision == "bfloat16" else None


PLAIN = PassMode()
"""The type of the weights throughout, and everything kept."""


def has_bfloat16(gpu: torch.device) -> bool:
    """Tells whether a GPU multiplies bfloat16 by itself."""
    with torch.cuda.device(gpu):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def resolved_precision(
    asked: Literal["auto", "float32", "bfloat16"],
    device: torch.device,
    has_it: Callable[[torch.device], bool] = has_bfloat16,
) -> Precision:
    """Returns the precision that a config's `precision` means on a device.

    "auto" is bfloat16 on a GPU that has it, and float32 elsewhere: most CPUs are several
    times slower in bfloat16.

    Args:
        asked: The config's.
        device: Where the policy is trained.
        has_it: Tells whether a GPU has bfloat16.

    Raises:
        ConfigError: It asks for bfloat16 on a GPU that does not have it.
    """
    if asked == "float32" or (asked == "auto" and device.type != "cuda"):
        return "float32"
    if device.type != "cuda" or has_it(device):
        return "bfloat16"
    if asked == "bfloat16":
        raise ConfigError(
            f"precision is 'bfloat16', which the GPU {device} does not compute in; choose "
            "'float32', or 'auto'"
        )
    return "float32"


def recomputable_blocks(lm: Any, name: str) -> tuple[nn.Module, ...]:
    """Prepares a model to run blocks again, switched off, and returns the modules with the switch.

    Args:
        lm: A causal language model of transformers, not PEFT-wrapped itself.
        name: How it is called in an error.

    Raises:
        ConfigError: The model cannot run its blocks again.
    """
    try:
        lm.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"gradient_checkpointing: {name} cannot run its blocks again in the backward pass "
            f"({error}); switch it off"
        ) from error
    # Needed by the reentrant kind alone: here gradients reach an adapter from frozen inputs too.
    lm.disable_input_require_grads()
    blocks = tuple(each for each in lm.modules() if hasattr(each, "gradient_checkpointing"))
    _switch(blocks, False)
    return blocks


@contextmanager
def running(mode: PassMode, blocks: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Lets a masked pass be computed in a mode, while it lasts.

    One pass each: autocast keeps its copies of the weights until the end, and weights may be
    exchanged between two passes.

    Args:
        mode: The mode.
        blocks: What `recomputable_blocks` returned; empty without checkpointing.
        device: Where the weights are.
    """
    half = mode.half
    cast = nullcontext() if half is None else torch.autocast(device.type, dtype=half)
    is_kept = torch.is_grad_enabled() and mode.is_checkpointed
    try:
        _switch(blocks, is_kept)
        with cast:
            yield
    finally:
        _switch(blocks, False)


@contextmanager
def plain_passes(policy: "Policy") -> Iterator[None]:
    """Lets a policy compute its masked passes in the type of its weights, while it lasts."""
    mode = policy.pass_mode
    policy.set_pass_mode(PLAIN)
    try:
        yield
    finally:
        policy.set_pass_mode(mode)


def _switch(blocks: Sequence[nn.Module], is_on: bool) -> None:
    for block in blocks:
        block.gradient_checkpointing = is_on  # type: ignore[assignment]
