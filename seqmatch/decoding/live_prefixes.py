"""Live prefixes of a batch, each of which grows and shrinks on its own.

One preallocated key/value cache with a write pointer for each row. A pop moves the pointer back:
keys and values of the surviving slots depend on the prefix only, so they stay right. The state that
it uncovers needs no forward pass either: the last hidden state of every depth is kept, and the
logits of the last few depths in a ring, so that the unembedding is not read again for one row. The
position of a token is its slot. Exact for models with full attention, and for those with a sliding
window up to its length: all that `architectures` accepts, which checks a loaded model's decoding by
this class.

Rows in use are the first ones, without gaps, so that no forward pass computes a row for nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqmatch.decoding import graphed_reader
from seqmatch.decoding.fused_reader import FusedReader, can_fuse
from seqmatch.decoding.module_reader import ModuleReader

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from seqmatch.policy import Policy

_LENGTH_STEP = 8
"""The cache is read up to a multiple of this, to keep the number of different shapes small."""
RING_DEPTHS = 8
"""Depths whose logits are kept; of longer chains of pops the unembedding is read again."""


class Reader(Protocol):
    """Runs a policy's model over new tokens; keeps keys and values of rows that have slots."""

    def prefill(
        self, first: int, ids: "Int[Tensor, 'row slot']", last: "Int[Tensor, ' row']"
    ) -> "Float[Tensor, 'row hidden']":
        """Reads right-padded prompts into the rows from `first` on.

        Returns:
            The last hidden state of each at its slot `last`.
        """

    def step(
        self,
        ids: "Int[Tensor, ' row']",
        slots: "Int[Tensor, ' row']",
        positions: "Int[Tensor, ' row']",
        mask: "Float[Tensor, 'row 1 1 slot']",
    ) -> "Float[Tensor, 'row hidden']":
        """Reads one token of each of the first rows at a slot of its own; returns their states.

        The mask is added to the scores of attention: 0 where a slot is seen.
        """

    def move(self, sources: "Int[Tensor, ' moved']", targets: "Int[Tensor, ' moved']") -> None:
        """Copies what rows hold to other rows."""


class LivePrefixes:
    """A batch of token prefixes with the policy's hidden state at every depth above the prompt."""

    def __init__(
        self,
        policy: "Policy",
        *,
        num_rows: int,
        longest_prompt: int,
        max_depth: int,
        backspace: bool = True,
        fused: bool = True,
    ) -> None:
        """Makes room.

        Args:
            policy: The policy; it must not change while this object lives.
            num_rows: How many prefixes there may be at once.
            longest_prompt: In tokens.
            max_depth: How many tokens may stand above a prompt.
            backspace: Whether `logits` has a column for it; the policy must have the action then.
            fused: Whether to copy the weights for fast decoding, where that is possible.
        """
        self.policy = policy
        # One slot more than can stand: rows that do not push write there.
        capacity = longest_prompt + max_depth + 1
        self._capacity = capacity
        make = FusedReader if fused and can_fuse(policy) else ModuleReader
        weight = policy.head_weight.detach()
        self._reader: Reader = make(policy, num_rows, capacity)
        if make is FusedReader and graphed_reader.is_wanted(weight.device):
            self._reader = graphed_reader.GraphedReader(self._reader, num_rows, capacity)
        self._hidden = weight.new_zeros(num_rows, max_depth + 1, weight.shape[1])
        self._slots = torch.arange(capacity, device=weight.device)
        self._none = weight.new_zeros(())
        self._least = weight.new_full((), torch.finfo(weight.dtype).min)
        self.num_rows = 0
        self._depth: NDArray[np.int64] = np.zeros(num_rows, dtype=np.int64)
        self._prompt_length: NDArray[np.int64] = np.zeros(num_rows, dtype=np.int64)
        self._num_actions = weight.shape[0] + 1 if backspace else weight.shape[0]
        self._backspace = backspace
        depths = min(RING_DEPTHS, max_depth + 1) if backspace else 0
        self._ring = weight.new_empty(num_rows, depths, self._num_actions)
        # The depths whose logits the ring has: from the lowest to the highest, none at first.
        self._lowest: NDArray[np.int64] = np.zeros(num_rows, dtype=np.int64)
        self._highest: NDArray[np.int64] = np.full(num_rows, -1)

    @property
    def depth(self) -> NDArray[np.int64]:
        """How many tokens stand above each prompt; of the rows in use."""
        return self._depth[: self.num_rows]

    def add(self, prompts: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
        """Reads prompts, none of them empty, in one forward pass; returns their rows."""
        first, device = self.num_rows, self._hidden.device
        lengths = np.array([len(prompt) for prompt in prompts])
        ids = np.zeros((len(prompts), int(lengths.max())), dtype=np.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = prompt
        rows = np.arange(first, first + len(prompts))
        self._hidden[first : first + len(prompts), 0] = self._reader.prefill(
            first, torch.from_numpy(ids).to(device), torch.from_numpy(lengths - 1).to(device)
        )
        self._depth[rows], self._prompt_length[rows] = 0, lengths
        self._lowest[rows], self._highest[rows] = 0, -1
        self.num_rows += len(prompts)
        return rows

    def current(self, rows: NDArray[np.int64]) -> "Float[Tensor, 'state hidden']":
        """Returns the hidden states of the live prefixes of some rows."""
        return self._hidden[self._tensor(rows), self._tensor(self._depth[rows])]

    def logits(self, rows: NDArray[np.int64]) -> "Float[Tensor, 'state action']":
        """Returns the logits of the live prefixes of some rows; the caller may change them.

        Backspace, where it is a column, is the last one, and not banned anywhere.
        """
        depth = self._depth[rows]
        is_missing = (depth > self._highest[rows]) | (depth < self._lowest[rows])
        missing = rows[is_missing]
        found = self._computed(missing) if missing.size else None
        if found is not None and len(missing) == len(rows):
            return found
        places = self._tensor(rows), self._tensor(depth % max(1, self._ring.shape[1]))
        return self._ring[places]

    def pop(self, rows: NDArray[np.int64]) -> None:
        """Takes back the last token of some rows, which must be above their prompts."""
        if (self._depth[rows] < 1).any():
            raise ValueError("a row at the end of its prompt has no token to take back")
        self._depth[rows] -= 1

    def push(self, rows: NDArray[np.int64], tokens: NDArray[np.int64]) -> None:
        """Appends one token to each of some rows, by one forward pass of all rows in use."""
        ids = np.zeros(self.num_rows, dtype=np.int64)
        ids[rows] = tokens
        slots = self._prompt_length[: self.num_rows] + self.depth
        length = -(-(int(slots.max()) + 1) // _LENGTH_STEP) * _LENGTH_STEP
        at = self._tensor(slots)
        limit = self.policy.max_positions
        hidden = self._reader.step(
            self._tensor(ids),
            at,
            at if limit is None else at.clamp(max=limit - 1),
            self._mask(at, min(length, self._capacity)),
        )
        # What the ring has above the live prefix was of tokens that have been taken back.
        self._highest[rows] = np.minimum(self._highest[rows], self._depth[rows])
        self._depth[rows] += 1
        if len(rows) < self.num_rows:
            hidden = hidden[self._tensor(rows)]
        self._hidden[self._tensor(rows), self._tensor(self._depth[rows])] = hidden

    def remove(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Drops some rows; the last ones take their places.

        Returns:
            Which rows moved, and where to: what the caller has of each row must move alike.
        """
        left = self.num_rows - len(rows)
        targets = rows[rows < left]
        sources = np.setdiff1d(np.arange(left, self.num_rows), rows)
        if len(sources):
            moved, to = self._tensor(sources), self._tensor(targets)
            self._reader.move(moved, to)
            self._hidden[to], self._ring[to] = self._hidden[moved], self._ring[moved]
        for array in (self._depth, self._prompt_length, self._lowest, self._highest):
            array[targets] = array[sources]
        self.num_rows = left
        return sources, targets

    def _computed(self, rows: NDArray[np.int64]) -> Tensor:
        """Logits by the unembedding, which the ring then has."""
        hidden = self.current(rows)
        with torch.no_grad():
            logits = self.policy.step_logits(hidden, self._backspace)
        if not self._backspace:
            return logits
        depth, num_depths = self._depth[rows], self._ring.shape[1]
        self._ring[self._tensor(rows), self._tensor(depth % num_depths)] = logits
        # Depths between that nobody has asked about would be taken for the ring's.
        is_apart = (depth < self._lowest[rows]) | (depth > self._highest[rows] + 1)
        self._highest[rows] = depth
        self._lowest[rows] = np.where(
            is_apart, depth, np.maximum(self._lowest[rows], depth - num_depths + 1)
        )
        return logits

    def _mask(self, slots: Tensor, length: int) -> Tensor:
        is_hidden = self._slots[:length] > slots[:, None]
        return torch.where(is_hidden, self._least, self._none)[:, None, None]

    def _tensor(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(numbers).to(self._hidden.device)
