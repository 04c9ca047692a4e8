"""Random tables of logits as trajectories, as the losses and as their oracles take them."""

import numpy as np
import torch

from seqmatch.types import StateActionValues

Rows = list[tuple[torch.Tensor, list[int]]]
"""N + 1 rows of logits, the last one of the terminal state, and N labels."""


def rows(seed: int, start: torch.Tensor | None = None, lengths: tuple[int, ...] = (3, 5)) -> Rows:
    """Random logits, N + 1 states a row; `start` is the first state's row where it is shared."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for length in lengths:
        logits = torch.randn(length + 1, 4, dtype=torch.float64, generator=generator)
        if start is not None:
            logits[0] = start
        labels = torch.randint(0, 4, (length,), generator=generator).tolist()
        made.append((logits.requires_grad_(), labels))
    return made


def values(data: Rows, dtype: torch.dtype = torch.float64) -> StateActionValues:
    """Pads the rows into one batch; the padding is rubbish on purpose."""
    longest = max(len(labels) for _, labels in data)
    chosen = torch.full((len(data), longest), 1e6, dtype=dtype)
    value = torch.full((len(data), longest + 1), -1e6, dtype=dtype)
    is_action = torch.zeros(len(data), longest, dtype=torch.bool)
    for row, (logits, labels) in enumerate(data):
        chosen[row, : len(labels)] = logits[range(len(labels)), labels].to(dtype)
        value[row, : len(labels) + 1] = logits.logsumexp(1).to(dtype)
        is_action[row, : len(labels)] = True
    return StateActionValues(chosen, value, is_action)


def arrays(data: Rows) -> list[tuple[np.ndarray, list[int]]]:
    """The same as the oracles take it."""
    return [(logits.detach().numpy(), labels) for logits, labels in data]


def gradients(loss: torch.Tensor, data: Rows) -> list[torch.Tensor]:
    """The gradient in each row's logits; zeros where there is none."""
    leaves = [logits for logits, _ in data]
    found = torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True)
    return [
        torch.zeros_like(leaf) if grad is None else grad
        for leaf, grad in zip(leaves, found, strict=True)
    ]
