"""New weights from a seed, with every global random generator left as it was.

`torch.manual_seed` seeds the generators of all GPUs too, and `fork_rng` brings back only those it
is told of: together they would reseed what samples elsewhere in the process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_weights(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds what draws weights on the CPU and, where it is another one, on `device`.

    Afterwards the generators go on where they were. On the CPU the weights are those of
    `torch.manual_seed(seed)`.

    Args:
        seed: Of the new weights.
        device: Where the weights are when they are drawn.
    """
    where = torch.device(device)
    on_gpu = where.type == "cuda"
    index = torch.cuda.current_device() if on_gpu and where.index is None else where.index
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
