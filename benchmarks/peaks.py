"""What a device can do at most: its matrix products and its copies, measured."""

import statistics
from collections.abc import Callable

import torch

from benchmarks.paired import Figure, spent_on

REPETITIONS = 7


def products_per_second(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Returns the operations a second of the product of two square matrices, 2 size^3 each."""
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2.0 * size**3 / _seconds(lambda: one @ other)


def bytes_per_second(device: torch.device, num_bytes: int) -> float:
    """Returns the bytes a second that a copy within the device's memory reads and writes."""
    one = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    other = torch.empty_like(one)
    return 2.0 * num_bytes / _seconds(lambda: other.copy_(one))


def figures(device: torch.device, size: int, num_bytes: int) -> list[Figure]:
    """Measures bfloat16 and float32 products, and copies."""
    rates = {
        str(dtype).removeprefix("torch."): products_per_second(device, dtype, size)
        for dtype in (torch.bfloat16, torch.float32)
    }
    found = [
        _figure(
            f"product of two {size:,} x {size:,} matrices, {name}", f"{rate / 1e12:.3g} TFLOP/s"
        )
        for name, rate in rates.items()
    ]
    rate = bytes_per_second(device, num_bytes)
    copied = f"copy of {num_bytes / 1e6:,.0f} MB within the device's memory, read and written"
    return [*found, _figure(copied, f"{rate / 1e9:,.0f} GB/s")]


def _figure(what: str, measured: str) -> Figure:
    return Figure("-", what, measured, "-", None, "a peak to compare with, by itself")


def _seconds(work: Callable[[], object]) -> float:
    """The median of several; the first two are not counted."""
    spent = [spent_on(work).wall for _ in range(2 + REPETITIONS)]
    return statistics.median(spent[2:])
