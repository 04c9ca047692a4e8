"""Choosing an action from logits by inverse CDF with one uniform number, or two made of it.

The law is that of transformers' processors in their order: temperature, top-k, top-p, min-p.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seqmatch.errors import DivergedError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

_AT_ONCE = 2048
"""Up to so many actions the sums are taken in one go."""
_GOLDEN = 0x1E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64), (31, 1))
"""Of the hash: how far bits are shifted, and the factor, as a signed number."""
_CANDIDATES = 256
"""The likeliest actions among which the border of top-p is looked for first."""


def choose_by_uniform(
    logits: "Float[Tensor, 'state action']",
    uniforms: "Float[Tensor, ' state']",
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> "Int[Tensor, ' state']":
    """Returns the action at which the cumulative probability first exceeds the uniform number.

    Over large vocabularies in two levels: a block of some hundred actions by their sums, then an
    action of the block, by another number that is a hash of the first. So no row is summed up in
    float64 whole, which is about 20 times less work than multinomial. And rounding hardly changes
    a choice: with one number alone the borders of all actions would move by what the errors of
    the actions before them add up to.

    Args:
        logits: -inf where an action does not exist; at least one is finite in each row.
        uniforms: In [0, 1), float64.
        temperature: Above 0.
        top_k: Only the k likeliest actions, and those as likely as the k-th; 0 leaves it out.
        top_p: Of these, the smallest set with at least this share of their probability; among
            equally likely actions the lower ids.
        min_p: Of these, those with at least this times the likeliest one's probability.

    Raises:
        DivergedError: A row's logits are not finite.
    """
    if temperature != 1.0:
        # Differences first: divided by a low temperature the logits themselves would lose digits.
        logits = logits.float()
        logits = (logits - logits.amax(dim=1, keepdim=True)).div_(temperature)
    wide = torch.promote_types(logits.dtype, torch.float32)
    weights = torch.softmax(logits, dim=1, dtype=wide)
    if 0 < top_k < weights.shape[1]:
        least = weights.topk(top_k, dim=1).values[:, -1:]
        weights = weights.masked_fill(weights < least, 0.0)
    if top_p < 1.0:
        weights = _nucleus(weights, top_p)
    if min_p > 0.0:
        # The likeliest action is never left out.
        weights = weights.masked_fill(weights < min_p * weights.amax(dim=1, keepdim=True), 0.0)
    if weights.shape[1] <= _AT_ONCE:
        cdf = weights.cumsum(dim=1, dtype=torch.float64)
        # Below the last sum, however it is rounded, since the number is below 1.
        target = uniforms[:, None] * _finite(cdf[:, -1:])
        return torch.searchsorted(cdf, target, right=True)[:, 0]
    return _in_two_levels(weights, uniforms)


def _in_two_levels(weights: Tensor, uniforms: Tensor) -> Tensor:
    num_actions = weights.shape[1]
    width = round(num_actions**0.5)
    blocks = weights.unfold(1, width, width).sum(dim=2)
    rest = weights[:, blocks.shape[1] * width :].sum(dim=1, keepdim=True)
    block_cdf = torch.cat([blocks, rest], dim=1).cumsum(dim=1, dtype=torch.float64)
    block = _first_above(block_cdf, uniforms[:, None] * _finite(block_cdf[:, -1:]))
    actions = block * width + torch.arange(width, device=weights.device)
    inside = weights.gather(1, actions.clamp(max=num_actions - 1)).double()
    cdf = inside.masked_fill(actions >= num_actions, 0.0).cumsum(dim=1)
    offset = _first_above(cdf, _hashed(uniforms)[:, None] * cdf[:, -1:])
    chosen: Tensor = (block * width + offset)[:, 0]
    return chosen


def _hashed(uniforms: Tensor) -> Tensor:
    """Other numbers in [0, 1), a function of these but unrelated to them.

    Source: SplitMix64's finaliser, as in `uniforms`; torch has no unsigned integers to shift.
    """
    bits = (uniforms * 2.0**53).long() + _GOLDEN
    for shift, factor in _ROUNDS:
        bits = (bits ^ (bits >> shift & (1 << 64 - shift) - 1)) * factor
    return (bits >> 11 & (1 << 53) - 1).double() * 2.0**-53


def _finite(total: Tensor) -> Tensor:
    if not all(map(math.isfinite, total[:, 0].tolist())):
        raise DivergedError("the policy's logits are not finite, so no action can be sampled")
    return total


def _first_above(cdf: Tensor, target: Tensor) -> Tensor:
    """Where the sums first exceed the target; it is a place whose own weight is above 0.

    Rounding may put the target at the very end, where none exceeds it: then just below it.
    """
    highest = torch.nextafter(cdf[:, -1:], cdf.new_zeros(()))
    return torch.searchsorted(cdf, torch.minimum(target, highest), right=True)


def _nucleus(weights: Tensor, top_p: float) -> Tensor:
    """Weights with 0 at the actions outside the smallest set that has `top_p` of the total."""
    needed = top_p * weights.sum(dim=1, keepdim=True, dtype=torch.float64)
    count = _CANDIDATES
    while True:
        ordered = weights.topk(min(count, weights.shape[1]), dim=1).values
        reached = ordered.double().cumsum(dim=1)
        if count >= weights.shape[1] or bool((reached[:, -1:] >= needed).all()):
            break
        count *= 16
    num_kept = (reached - ordered < needed).sum(dim=1, keepdim=True)
    least = ordered.gather(1, num_kept - 1)
    num_above = (ordered > least).sum(dim=1, keepdim=True)
    is_least = weights == least
    is_kept = (weights > least) | (is_least & (is_least.cumsum(dim=1) <= num_kept - num_above))
    return weights.masked_fill(~is_kept, 0.0)
