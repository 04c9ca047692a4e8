"""Choosing an action from logits: by inverse CDF with one uniform number, or the likeliest."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqmatch.errors import DivergedError

if TYPE_CHECKING:
    from jaxtyping import Float, Int


def choose_by_uniform(
    logits: "Float[Tensor, 'state action']",
    uniforms: "Float[Tensor, ' state']",
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> "Int[Tensor, ' state']":
    """Returns the action at which the cumulative probability first exceeds the uniform number.

    Two levels, sums of blocks and then within a block, so that no row of the vocabulary is summed
    up in float64 whole: one random number a row and about 20 times less work than multinomial.

    Args:
        logits: -inf where an action does not exist; at least one is finite in each row.
        uniforms: In [0, 1), float64.
        temperature: Above 0.
        top_p: Only the likeliest actions with this total probability can be chosen.

    Raises:
        DivergedError: A row's logits are not finite.
    """
    scaled = logits.float() / temperature
    weights = (scaled - scaled.amax(dim=1, keepdim=True)).exp()
    if top_p < 1.0:
        weights = _nucleus(weights, top_p)
    num_actions = weights.shape[1]
    width = max(16, round(num_actions**0.5))
    padded = torch.nn.functional.pad(weights, (0, -num_actions % width))
    blocks = padded.view(len(padded), -1, width)
    block_cdf = blocks.sum(dim=2, dtype=torch.float64).cumsum(dim=1)
    total = block_cdf[:, -1:]
    if not bool(torch.isfinite(total).all()):
        raise DivergedError("the policy's logits are not finite, so no action can be sampled")
    target = uniforms[:, None] * total
    block = torch.searchsorted(block_cdf, target, right=True).clamp(max=blocks.shape[1] - 1)
    below = torch.where(block > 0, block_cdf.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, width))[:, 0]
    cdf = inside.double().cumsum(dim=1)
    offset = torch.searchsorted(cdf, target - below, right=True)
    # Rounding may put the target at the very end: then the last action that has weight is meant.
    last = _last_positive(inside)
    chosen: Tensor = (block * width + torch.minimum(offset, last))[:, 0]
    return chosen


def _last_positive(weights: Tensor) -> Tensor:
    places = torch.arange(weights.shape[1], device=weights.device)
    return torch.where(weights > 0, places, 0).amax(dim=1, keepdim=True)


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Weights with 0 at the actions outside the smallest set that has `top_p` of the total."""
    ordered, places = weights.sort(dim=1, descending=True, stable=True)
    before = ordered.cumsum(dim=1) - ordered
    outside = before >= top_p * ordered.sum(dim=1, keepdim=True)
    return weights.masked_fill(outside.gather(1, places.argsort(dim=1)), 0.0)
