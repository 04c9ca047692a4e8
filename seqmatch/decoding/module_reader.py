"""Reading tokens with a model's own modules, and a key/value cache that has a slot for each row.

The general reader: whatever `architectures` accepts. Merged adapters take the places of the plain
weights for each forward pass and no longer, so that the policy stays as it is.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from seqmatch.decoding.merged_adapters import MergedAdapters

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from seqmatch.policy import Policy


class ModuleReader:
    """Hidden states by the policy's modules; see `live_prefixes.Reader`."""

    def __init__(self, policy: "Policy", num_rows: int, capacity: int) -> None:
        """Keeps room for `num_rows` rows of `capacity` slots; memory is taken at the first use."""
        self._policy = policy
        self._adapters = MergedAdapters(policy)
        self._writes = _Writes(num_rows, capacity)
        num_layers = policy.lm_config.num_hidden_layers
        self._layers = [_RowLayer(self._writes) for _ in range(num_layers)]
        self._cache = Cache(layers=self._layers)

    def prefill(
        self, first: int, ids: "Int[Tensor, 'row slot']", last: "Int[Tensor, ' row']"
    ) -> "Float[Tensor, 'row hidden']":
        """Reads right-padded prompts; what padding wrote is overwritten before it can be seen."""
        num_rows, length = ids.shape
        self._writes.rows, self._writes.slots = slice(first, first + num_rows), None
        self._writes.length = length
        device, dtype = ids.device, self._policy.dtype
        # An additive float mask: the only kind that every attention implementation reads rightly.
        mask = torch.full((length, length), torch.finfo(dtype).min, dtype=dtype, device=device)
        positions = torch.arange(length, device=device)
        hidden = self._forward(
            ids, positions.expand(num_rows, -1), mask.triu(1).expand(num_rows, 1, -1, -1)
        )
        return hidden[torch.arange(num_rows, device=device), last]

    def step(
        self,
        ids: "Int[Tensor, ' row']",
        slots: "Int[Tensor, ' row']",
        positions: "Int[Tensor, ' row']",
        mask: "Float[Tensor, 'row 1 1 slot']",
    ) -> "Float[Tensor, 'row hidden']":
        """Reads one token of each of the first rows."""
        self._writes.rows, self._writes.slots = slice(0, len(ids)), slots
        self._writes.length = mask.shape[-1]
        return self._forward(ids[:, None], positions[:, None], mask)[:, 0]

    def move(self, sources: "Int[Tensor, ' moved']", targets: "Int[Tensor, ' moved']") -> None:
        """Copies what rows hold to other rows."""
        for layer in self._layers:
            layer.keys[targets] = layer.keys[sources]
            layer.values[targets] = layer.values[sources]

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        with torch.no_grad(), self._adapters.in_place():
            output = self._policy.backbone(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=self._cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden


class _Writes:
    """Where the next forward pass writes: shared by the layers."""

    def __init__(self, num_rows: int, capacity: int) -> None:
        self.num_rows, self.capacity = num_rows, capacity
        self.rows = slice(0, 0)
        self.slots: Tensor | None = None
        """One slot a row; None while prompts are read, which fill the slots from 0."""
        self.length = 0
        """How many slots are read."""


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers carries no types here
    """One layer's keys and values, written at each row's own slot."""

    is_compileable = False
    is_sliding = False

    def __init__(self, writes: _Writes) -> None:
        super().__init__()
        self.writes = writes

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        room = self.writes.num_rows, key_states.shape[1], self.writes.capacity
        self.keys = key_states.new_zeros(*room, key_states.shape[-1])
        self.values = value_states.new_zeros(*room, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        writes = self.writes
        keys, values = self.keys[writes.rows], self.values[writes.rows]
        if writes.slots is None:
            keys[:, :, : writes.length] = key_states
            values[:, :, : writes.length] = value_states
            return key_states, value_states
        rows = torch.arange(len(writes.slots), device=key_states.device)
        keys[rows, :, writes.slots] = key_states[:, :, 0]
        values[rows, :, writes.slots] = value_states[:, :, 0]
        return keys[:, :, : writes.length], values[:, :, : writes.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return max(self.writes.length, query_length), 0

    def get_seq_length(self) -> int:
        return 0 if self.writes.slots is None else self.writes.length

    def get_max_length(self) -> int:
        return self.writes.capacity
