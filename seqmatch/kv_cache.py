"""Live prefixes of a batch, each of which grows and shrinks on its own.

One preallocated key/value cache with a write pointer for each row. A pop moves the pointer back:
keys and values of the surviving slots depend on the prefix only, so they stay right, and the last
hidden state of every depth is kept, so the uncovered state needs no forward pass. The position of a
token is its slot. Exact for models with full attention, and for those with a sliding window up to
its length: all that `architectures` accepts, which checks a loaded model's decoding by this cache.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from jaxtyping import Float

    from seqmatch.policy import Policy

_LENGTH_STEP = 32
"""The cache is read up to a multiple of this, to keep the number of different shapes small."""


class _Writes:
    """Where the next forward pass writes: shared by the layers."""

    capacity: int = 0
    slots: Tensor | None = None
    """One slot a row; None while the prompts are read, which fill the slots from 0."""
    length: int = 0
    """How many slots are read."""


class _RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers carries no types here
    """One layer's keys and values, written at each row's own slot."""

    is_compileable = False
    is_sliding = False

    def __init__(self, writes: _Writes) -> None:
        super().__init__()
        self.writes = writes

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, width = key_states.shape
        self.keys = key_states.new_zeros(batch, heads, self.writes.capacity, width)
        width = value_states.shape[-1]
        self.values = value_states.new_zeros(batch, heads, self.writes.capacity, width)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        writes = self.writes
        if writes.slots is None:
            self.keys[:, :, : writes.length] = key_states
            self.values[:, :, : writes.length] = value_states
            return key_states, value_states
        rows = torch.arange(len(writes.slots), device=key_states.device)
        self.keys[rows, :, writes.slots] = key_states[:, :, 0]
        self.values[rows, :, writes.slots] = value_states[:, :, 0]
        return self.keys[:, :, : writes.length], self.values[:, :, : writes.length]

    def keep(self, rows: Tensor) -> None:
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return max(self.writes.length, query_length), 0

    def get_seq_length(self) -> int:
        return 0 if self.writes.slots is None else self.writes.length

    def get_max_length(self) -> int:
        return self.writes.capacity


class LivePrefixes:
    """A batch of token prefixes with the policy's hidden state at every depth above the prompt.

    Rows are numbered as in the batch that is held; `keep` renumbers them.
    """

    def __init__(
        self, policy: "Policy", prompts: Sequence[tuple[int, ...]], max_depth: int
    ) -> None:
        """Reads the prompts in one forward pass.

        Args:
            policy: The policy; it must not change while this object lives.
            prompts: At least one, none of them empty.
            max_depth: How many tokens may stand above a prompt.
        """
        self.policy = policy
        lengths = np.array([len(prompt) for prompt in prompts])
        self.prompt_lengths: NDArray[np.int64] = lengths
        self.depth: NDArray[np.int64] = np.zeros(len(prompts), dtype=np.int64)
        self._writes = _Writes()
        # One slot more than can stand: rows that do not push write there.
        self._writes.capacity = int(lengths.max()) + max_depth + 1
        num_layers = policy.lm_config.num_hidden_layers
        self._layers = [_RowLayer(self._writes) for _ in range(num_layers)]
        self._cache = Cache(layers=self._layers)
        last = self._read(prompts)
        self._hidden = last.new_zeros(len(prompts), max_depth + 1, last.shape[1])
        self._hidden[:, 0] = last

    def __len__(self) -> int:
        return len(self.depth)

    def current(self, rows: NDArray[np.int64]) -> "Float[Tensor, 'state hidden']":
        """Returns the hidden states of the live prefixes of some rows."""
        device = self._hidden.device
        at = torch.from_numpy(rows).to(device), torch.from_numpy(self.depth[rows]).to(device)
        return self._hidden[at]

    def pop(self, rows: NDArray[np.int64]) -> None:
        """Takes back the last token of some rows, which must be above their prompts."""
        if (self.depth[rows] < 1).any():
            raise ValueError("a row at the end of its prompt has no token to take back")
        self.depth[rows] -= 1

    def push(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Appends one token to each of some rows, by one forward pass of the batch."""
        device = self._hidden.device
        ids = np.zeros(len(self), dtype=np.int64)
        ids[rows] = tokens
        slots = self.prompt_lengths + self.depth
        limit = self.policy.max_positions
        length = -(-(int(slots.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP
        self._writes.length = min(length, self._writes.capacity)
        self._writes.slots = torch.from_numpy(slots).to(device)
        seen = torch.arange(self._writes.length, device=device) <= self._writes.slots[:, None]
        positions = self._writes.slots if limit is None else self._writes.slots.clamp(max=limit - 1)
        hidden = self._forward(
            torch.from_numpy(ids).to(device)[:, None], positions[:, None], seen[:, None, None]
        )
        self.depth[rows] += 1
        row = torch.from_numpy(rows).to(device)
        self._hidden[row, torch.from_numpy(self.depth[rows]).to(device)] = hidden[row, 0]

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drops all rows but these; they are renumbered from 0 in this order."""
        chosen = torch.from_numpy(rows).to(self._hidden.device)
        for layer in self._layers:
            layer.keep(chosen)
        self._hidden = self._hidden[chosen]
        self.depth, self.prompt_lengths = self.depth[rows], self.prompt_lengths[rows]

    def _read(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """Reads right-padded prompts; what padding wrote is overwritten before it can be seen."""
        device = self.policy.device
        longest = int(self.prompt_lengths.max())
        ids = np.zeros((len(prompts), longest), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        self._writes.length = longest
        seen = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
        positions = torch.arange(longest, device=device)
        hidden = self._forward(
            torch.from_numpy(ids).to(device),
            positions.expand(len(prompts), -1),
            seen.expand(len(prompts), 1, -1, -1),
        )
        last = torch.from_numpy(self.prompt_lengths - 1).to(device)
        return hidden[torch.arange(len(prompts), device=device), last]

    def _forward(self, ids: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        dtype = self.policy.dtype
        # An additive float mask: the only kind that every attention implementation reads rightly.
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        mask = mask.masked_fill(~seen, torch.finfo(dtype).min)
        with torch.no_grad():
            output = self.policy.backbone(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=self._cache,
                use_cache=True,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden
