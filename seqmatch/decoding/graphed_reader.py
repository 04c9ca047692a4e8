"""Steps of a reader as CUDA graphs: one launch for a step instead of some twenty for each block.

A graph computes fixed shapes in fixed memory. So a step is padded, to a power of two of rows and a
multiple of `LENGTH_STEP` slots, and its numbers are copied to where the graph of that shape reads
them. Rows that pad are not in use: what they write is overwritten before it can be seen.

Each graph is compared with the reader itself when it is made; where it cannot be made or differs,
steps go on without graphs. Only with the variable `SEQMATCH_CUDA_GRAPHS=1`: it has not been tried
on a GPU yet.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from seqmatch.decoding.live_prefixes import Reader

SWITCH = "SEQMATCH_CUDA_GRAPHS"
LENGTH_STEP = 64
TOLERANCE = 1e-4
"""Relative to the largest number of a step; padding changes how sums are rounded."""

Recorded = Callable[[], Tensor]
"""Computes a step from where its inputs are; the result is in the same memory each time."""


def is_wanted(device: torch.device) -> bool:
    """Tells whether steps on a device are to be graphs."""
    return device.type == "cuda" and os.environ.get(SWITCH) == "1"


def cuda_graph(work: Recorded) -> Recorded:
    """Records what some work launches on a GPU, and returns what launches it again.

    Raises:
        RuntimeError: It cannot be recorded.
    """
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):  # what is made at the first use must not be recorded
            work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()

    def again() -> Tensor:
        graph.replay()
        return result

    return again


@dataclass(frozen=True)
class _Step:
    """Where a graph reads its numbers, and what runs it."""

    inputs: tuple[Tensor, Tensor, Tensor, Tensor]
    """As of `Reader.step`."""
    run: Recorded

    def __call__(self, *inputs: Tensor) -> Tensor:
        _put(inputs, self.inputs)
        return self.run()[: len(inputs[0])].clone()


class GraphedReader:
    """Another reader, whose steps are graphs; see `live_prefixes.Reader`."""

    def __init__(
        self,
        reader: "Reader",
        num_rows: int,
        capacity: int,
        record: Callable[[Recorded], Recorded] = cuda_graph,
    ) -> None:
        """Records steps of the reader, which has room for so many rows and slots, as they come."""
        self._reader, self._num_rows, self._capacity = reader, num_rows, capacity
        self._record = record
        self._steps: dict[tuple[int, int], _Step] = {}
        self._is_off = False

    @torch.inference_mode()
    def step(
        self,
        ids: "Int[Tensor, ' row']",
        slots: "Int[Tensor, ' row']",
        positions: "Int[Tensor, ' row']",
        mask: "Float[Tensor, 'row 1 1 slot']",
    ) -> "Float[Tensor, 'row hidden']":
        """Reads one token of each of the first rows."""
        inputs = ids, slots, positions, mask
        num_rows = min(1 << (len(ids) - 1).bit_length(), self._num_rows)
        length = min(-(-mask.shape[-1] // LENGTH_STEP) * LENGTH_STEP, self._capacity)
        recorded = self._steps.get((num_rows, length))
        if recorded is not None:
            return recorded(*inputs)
        # Reading a token twice writes the same keys and values, up to rounding.
        hidden = self._reader.step(*inputs)
        if not self._is_off:
            self._add(num_rows, length, inputs, hidden)
        return hidden

    def prefill(
        self, first: int, ids: "Int[Tensor, 'row slot']", last: "Int[Tensor, ' row']"
    ) -> "Float[Tensor, 'row hidden']":
        """Reads right-padded prompts, without a graph."""
        return self._reader.prefill(first, ids, last)

    def move(self, sources: "Int[Tensor, ' moved']", targets: "Int[Tensor, ' moved']") -> None:
        """Copies what rows hold to other rows."""
        self._reader.move(sources, targets)

    def _add(
        self,
        num_rows: int,
        length: int,
        inputs: tuple[Tensor, Tensor, Tensor, Tensor],
        hidden: Tensor,
    ) -> None:
        """Records the step of a shape, if it then computes these hidden states."""
        ids, _, _, mask = inputs
        own = tuple(ids.new_zeros(num_rows) for _ in range(3))
        places = own[0], own[1], own[2], mask.new_zeros(num_rows, 1, 1, length)
        _put(inputs, places)
        try:
            step = _Step(places, self._record(lambda: self._reader.step(*places)))
            off = (step(*inputs) - hidden).abs().max() / hidden.abs().max()
        except RuntimeError as error:
            self._turn_off(str(error))
            return
        if off <= TOLERANCE:
            self._steps[num_rows, length] = step
        else:
            self._turn_off(f"its result is off by {float(off):.0e}")

    def _turn_off(self, why: str) -> None:
        self._is_off = True
        self._steps.clear()
        warnings.warn(f"decoding goes on without CUDA graphs: {why}", stacklevel=2)


def _put(inputs: tuple[Tensor, ...], places: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Copies a step's inputs to where a graph of at least their shape reads them."""
    *numbers, mask = inputs
    num_rows, length = len(mask), mask.shape[-1]
    for given, place in zip(numbers, places[:3], strict=True):
        place[:num_rows] = given
    # Slots beyond: of rows in use not seen, of the others all alike.
    places[3][:num_rows, ..., length:] = torch.finfo(mask.dtype).min
    places[3][:num_rows, ..., :length] = mask
