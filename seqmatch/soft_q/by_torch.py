"""The operator on torch's own chunked loss, for comparison and where it is faster.

`linear_cross_entropy(..., reduction="none")` returns nll = V - Q and takes an upstream gradient for
each state. With Q = <W_y, h> + b_y made apart, V = nll + Q, and autograd adds the two adjoints to
the exact one: any label serves, so states without one take token 0.
"""

import torch
from torch import Tensor, nn

from seqmatch.errors import ConfigError
from seqmatch.soft_q.transform import IDENTITY, LogitTransform

CHUNK = 256
"""States at a time; what torch would choose by itself is five times slower on a CPU."""


def by_torch(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    backspace_row: Tensor | None,
    labels: Tensor,
    can_delete: Tensor,
    temperature: float,
    transform: LogitTransform,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Computes Q and V; arguments as of the front, but that labels are -1 where there is none.

    Raises:
        ConfigError: Half precision, or logits that are transformed.
    """
    if hidden.dtype not in (torch.float32, torch.float64) or hidden.dtype != weight.dtype:
        raise ConfigError(
            f"backend 'torch' with hidden states in {hidden.dtype} and an unembedding in "
            f"{weight.dtype}; allowed: both float32 or both float64, since it rounds its losses to "
            "that type. Backend 'tiled' takes all types"
        )
    if transform != IDENTITY:
        raise ConfigError(f"backend 'torch' with {transform}; allowed: none. Use backend 'tiled'")
    is_insert = (labels >= 0) & (labels < weight.shape[0])
    token = labels.where(is_insert, 0)
    token_q = (hidden * weight[token]).sum(1)
    if bias is not None:
        token_q = token_q + bias[token]
    nll = nn.functional.linear_cross_entropy(
        hidden if temperature == 1.0 else hidden / temperature,
        weight,
        token,
        linear_bias=bias if bias is None or temperature == 1.0 else bias / temperature,
        reduction="none",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=chunk),
    )
    values = nll + token_q / temperature
    chosen_q = token_q.where(is_insert, 0.0)
    if backspace_row is not None:
        backspace = hidden @ backspace_row.to(hidden.dtype)
        with_backspace = values.logaddexp(backspace / temperature)
        values = torch.where(can_delete, with_backspace, values)
        chosen_q = torch.where(labels == weight.shape[0], backspace, chosen_q)
    return chosen_q, values * temperature
