"""Rows of a batch one after the other in one long row, so that no padding is computed.

A slot sees its ancestors in the tree of its row (`single_pass`). The trees of all rows stand side
by side in one walk, so the same rule keeps rows apart. On a GPU it is FlexAttention's mask, which
leaves out whole blocks that nothing in them sees; there is no matrix of slots by slots. Elsewhere
FlexAttention has no backward pass, and the rule is a dense mask: exact, but quadratic in the slots
of the whole pack, for tests and small batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from seqmatch.errors import ConfigError
from seqmatch.single_pass import additive_mask
from seqmatch.types import SinglePassBatch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

_ATTENTION = "seqmatch_packed"
_BLOCK = 128
"""FlexAttention's; a pack is filled up to a multiple, so that there are few shapes to compile."""


@dataclass(frozen=True)
class Pack:
    """The slots of a batch in one row."""

    input_ids: "Int[Tensor, '1 place']"
    position_ids: "Int[Tensor, '1 place']"
    enters: "Int[Tensor, ' place']"
    leaves: "Int[Tensor, ' place']"
    """As of `SinglePassBatch`, in one walk through the trees of all rows."""
    slots: "Int[Tensor, ' slot']"
    """Of the first places: which slot of the batch, rows after rows. The rest is filling."""


def packed(batch: SinglePassBatch, multiple: int = 1) -> Pack:
    """Returns the slots of a batch without its padding.

    Args:
        batch: The batch.
        multiple: Of which the number of places is one, by trees of one slot at the end.
    """
    num_rows, num_slots = batch.input_ids.shape
    slots = batch.is_slot.flatten().nonzero()[:, 0]
    filling = torch.arange(-len(slots) % multiple, device=slots.device)
    # A row's walk takes less than `num_slots`, so that each has as many numbers for itself.
    start = num_slots * torch.arange(num_rows, device=slots.device)[:, None]
    end = num_rows * num_slots

    def places(of_slots: Tensor, of_filling: Tensor) -> Tensor:
        return torch.cat([of_slots.flatten()[slots], of_filling])

    return Pack(
        input_ids=places(batch.input_ids, torch.zeros_like(filling))[None],
        position_ids=places(batch.position_ids, torch.zeros_like(filling))[None],
        enters=places(batch.enters + start, end + filling),
        leaves=places(batch.leaves + start, end + filling + 1),
        slots=slots,
    )


def unpacked(
    states: "Float[Tensor, '1 place hidden']", pack: Pack, batch: SinglePassBatch
) -> "Float[Tensor, 'batch slot hidden']":
    """Returns what a pack's places have at the slots of its batch; 0 at padding."""
    flat = states.new_zeros(batch.input_ids.numel(), states.shape[-1])
    flat = flat.index_copy(0, pack.slots, states[0, : len(pack.slots)])
    return flat.view(*batch.input_ids.shape, -1)


def pack_for(batch: SinglePassBatch) -> Pack:
    """Returns a batch's pack for the device it is on."""
    return packed(batch, _BLOCK if batch.input_ids.device.type == "cuda" else 1)


def pack_mask(pack: Pack, dtype: torch.dtype) -> "BlockMask | Float[Tensor, '1 1 place place']":
    """Returns the mask of attention within a pack for the device it is on.

    Args:
        pack: The pack.
        dtype: Of the scores of attention.
    """
    if pack.enters.device.type != "cuda":
        return additive_mask(pack.enters[None], pack.leaves[None], dtype)
    return block_mask(pack)


def block_mask(pack: Pack) -> BlockMask:
    """Returns the mask of attention within a pack as FlexAttention takes it."""
    enters, leaves = pack.enters, pack.leaves

    def is_seen(_row: Tensor, _head: Tensor, asking: Tensor, asked: Tensor) -> "Bool[Tensor, '']":
        return (enters[asked] <= enters[asking]) & (enters[asking] < leaves[asked])

    size = len(enters)
    make = _compiled_block_mask() if enters.device.type == "cuda" else create_block_mask
    return make(is_seen, 1, None, size, size, enters.device)


@cache
def _compiled_block_mask() -> Callable[..., BlockMask]:
    """Without it all slots by all slots are held while the blocks are found."""
    return torch.compile(create_block_mask)


def let_pack(lm: Any, name: str) -> None:
    """Lets a model read packs; without them it computes what it did.

    Args:
        lm: A causal language model of transformers, not PEFT-wrapped itself.
        name: How it is called in an error.

    Raises:
        ConfigError: Its attention cannot be exchanged.
    """
    found = getattr(lm.config, "_attn_implementation", None)
    if found == _ATTENTION:
        return
    if found != "sdpa" or not getattr(lm, "_supports_flex_attn", False):
        raise ConfigError(
            f"packing: {name} ({type(lm).__name__}, attention {found!r}) does not compute "
            "attention by FlexAttention; switch packing off"
        )
    lm.set_attn_implementation(_ATTENTION)
    if lm.config._attn_implementation != _ATTENTION:
        raise ConfigError(f"packing: the attention of {name} cannot be exchanged; switch it off")


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: "Tensor | BlockMask | None",
    **settings: Any,
) -> tuple[Tensor, Tensor | None]:
    """FlexAttention where the mask is one of its own, else what every other pass has."""
    is_packed = isinstance(attention_mask, BlockMask)
    forward: Any = flex_attention_forward if is_packed else sdpa_attention_forward
    found: tuple[Tensor, Tensor | None] = forward(
        module, query, key, value, attention_mask, **settings
    )
    return found


AttentionInterface.register(_ATTENTION, _attention)
AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
