"""The operator by tiles: logits are made, reduced and dropped, a tile at a time.

Logits are made in tiles of some states x some tokens, reduced while they are in the cache, and
dropped. With p = softmax(l/T) and upstream gradients g_Q and g_V the adjoint of the logits is
g_V p + g_Q onehot(y), so that of a state's hidden vector is

    g_V sum_{x != y} p_x W_x + (g_V p_y + g_Q) W_y

The sum does not depend on the upstream gradients, so forward takes it along with V (the sums are
rescaled where a larger logit turns up) and backward needs no logits; only the gradient of a
trained unembedding makes them a second time. Where one tile holds all logits, they are kept.

The label's own term stands apart, and is taken as g_V + g_Q - g_V sum_{x != y} p_x: near p_y = 1
it is a small difference of large numbers.

Tiles and sums are float32 or wider: sums in bfloat16 bias training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmatch.soft_q.transform import LogitTransform


class Tile(NamedTuple):
    """How many logits are held at a time."""

    states: int
    tokens: int


TILE_ON_CPU = Tile(states=1024, tokens=1024)
"""4 MB, which stays in the cache."""
TILE_ON_ACCELERATOR = Tile(states=4096, tokens=8192)
"""128 MB, large enough for the matrix products; chosen by arithmetic, not measured."""
KEPT = 2**22
"""Where a small vocabulary makes no more logits than this in all (16 MB), one tile holds them."""


def tile_for(num_states: int, vocab: int, device: torch.device) -> Tile:
    """Returns the tile for a number of states, a vocabulary and a device."""
    tile = TILE_ON_CPU if device.type == "cpu" else TILE_ON_ACCELERATOR
    return Tile(max(num_states, 1), vocab) if num_states * vocab <= KEPT else tile


@dataclass(frozen=True)
class _Settings:
    """What is fixed in a call."""

    tile: Tile
    temperature: float
    transform: LogitTransform

    def row_slices(self, num_states: int) -> Iterator[slice]:
        """Rows of one tile after the other."""
        for start in range(0, num_states, self.tile.states):
            yield slice(start, start + self.tile.states)

    def token_slices(self, vocab: int) -> Iterator[slice]:
        """Tokens of one tile after the other."""
        for start in range(0, vocab, self.tile.tokens):
            yield slice(start, min(start + self.tile.tokens, vocab))


def by_tiles(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    backspace_row: Tensor | None,
    labels: Tensor,
    can_delete: Tensor,
    temperature: float,
    transform: LogitTransform,
    tile: Tile,
) -> tuple[Tensor, Tensor]:
    """Computes Q and V; arguments as of the front, but that labels are -1 where there is none."""
    settings = _Settings(tile, temperature, transform)
    inputs = (hidden, weight, bias, backspace_row, labels, can_delete, settings)
    chosen_q, values = _ChosenQAndSoftValue.apply(*inputs)  # type: ignore[no-untyped-call]
    return chosen_q, values


class _ChosenQAndSoftValue(torch.autograd.Function):
    """The operator with its adjoint."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        row: Tensor | None,
        labels: Tensor,
        can_delete: Tensor,
        settings: _Settings,
    ) -> tuple[Tensor, Tensor]:
        """Reduces the logits tile by tile to Q, V and what backward needs."""
        wide, vocab = _wide(hidden.dtype), weight.shape[0]
        num_states = hidden.shape[0]
        chosen_q = hidden.new_zeros(num_states, dtype=wide)
        peak = chosen_q.new_full((num_states,), torch.finfo(wide).min)
        rest = torch.zeros_like(chosen_q)
        if row is not None:
            # Backspace is the first action of the running sum, where it exists.
            backspace = settings.transform.apply_(hidden.to(wide) @ row.to(wide))
            chosen_q = torch.where(labels == vocab, backspace, chosen_q)
            peak = torch.where(can_delete, backspace / settings.temperature, peak)
            rest = (can_delete & (labels != vocab)).to(wide)
        # All logits of one tile are kept for backward; else what is needed of them is summed here.
        is_kept = num_states <= settings.tile.states and vocab <= settings.tile.tokens
        kept = mean_row = None
        if ctx.needs_input_grad[0] and not is_kept:
            mean_row = torch.zeros_like(hidden, dtype=wide)
        for rows in settings.row_slices(num_states):
            mean = None if mean_row is None else mean_row[rows]
            inputs = (hidden[rows], weight, bias, labels[rows])
            last = _reduce(*inputs, chosen_q[rows], peak[rows], rest[rows], mean, settings)
            kept = last if is_kept and any(ctx.needs_input_grad) else None
        total = rest + (chosen_q / settings.temperature - peak).exp_().where(labels >= 0, 0.0)
        if mean_row is not None:
            mean_row.div_(total.unsqueeze(1))
        sums = (peak, rest, total, mean_row)
        ctx.save_for_backward(hidden, weight, bias, row, labels, can_delete, chosen_q, *sums, kept)
        ctx.settings = settings
        return chosen_q, (peak + total.log()).mul_(settings.temperature)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_q: Tensor, grad_v: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        """Applies the adjoint of the module docstring."""
        hidden, weight, bias, row, labels, can_delete, chosen_q, *sums, kept = ctx.saved_tensors
        peak, rest, total, mean_row = sums
        needs_hidden, needs_weight, needs_bias, needs_row = ctx.needs_input_grad[:4]
        settings: _Settings = ctx.settings
        vocab, wide = weight.shape[0], total.dtype
        is_insert = (labels >= 0) & (labels < vocab)
        share = grad_v / total
        # g_V p_y + g_Q, without the difference of p_y and 1.
        at_label = (grad_v + grad_q - share * rest).mul_(settings.transform.slope(chosen_q))
        at_token = at_label.where(is_insert, 0.0)
        grad_weight = grad_bias = grad_hidden = grad_row = None
        if kept is not None:
            adjoint = kept * share.unsqueeze(1)
            _overwrite(adjoint, *_place(labels, slice(0, vocab)), at_token.unsqueeze(1))
            whole = slice(None)
            if needs_hidden:
                grad_hidden = _product(adjoint, _block(weight, whole, hidden))
            if needs_weight:
                grad_weight = _product(adjoint.t(), _block(hidden, whole, hidden)).to(weight.dtype)
            grad_bias = None if bias is None else adjoint.sum(0).to(bias.dtype)
        elif needs_weight or needs_bias:
            saved = (hidden, weight, bias, labels, at_token, peak, share)
            grad_weight, grad_bias = _unembedding_gradients(*saved, settings, needs_weight)
        if mean_row is not None:
            grad_hidden = weight[labels.where(is_insert, 0)].to(wide)
            grad_hidden.mul_(at_token.unsqueeze(1)).addcmul_(mean_row, grad_v.unsqueeze(1))
        if row is not None:
            wide_hidden, wide_row = hidden.to(wide), row.to(wide)
            at_backspace = _at_backspace(wide_hidden @ wide_row, peak, share, settings)
            at_backspace = at_backspace.where(can_delete, 0.0)
            at_backspace = torch.where(labels == vocab, at_label, at_backspace)
            if grad_hidden is not None:
                grad_hidden.addr_(at_backspace, wide_row)
            grad_row = (at_backspace @ wide_hidden).to(row.dtype) if needs_row else None
        grad_hidden = None if grad_hidden is None else grad_hidden.to(hidden.dtype)
        return grad_hidden, grad_weight, grad_bias, grad_row, None, None, None


def _at_backspace(logits: Tensor, peak: Tensor, share: Tensor, settings: _Settings) -> Tensor:
    """The adjoint of backspace's untransformed logits where it is not the label."""
    backspace = settings.transform.apply_(logits)
    adjoint = (backspace / settings.temperature - peak).exp_().mul_(share)
    return adjoint.mul_(settings.transform.slope(backspace))


def _reduce(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    chosen_q: Tensor,
    peak: Tensor,
    rest: Tensor,
    mean_row: Tensor | None,
    settings: _Settings,
) -> Tensor | None:
    """Takes the tokens into the running sums of some states, in place.

    With m the peak so far of l/T, over the actions that are not the label: rest is
    sum_x exp(l_x/T - m), and mean_row the same sum of slope_x W_x, tokens only. Returns the terms
    slope_x exp(l_x/T - m) of the last tile.
    """
    logits = None
    buffer = _buffer(hidden, weight, settings)
    for tokens in settings.token_slices(weight.shape[0]):
        block = _block(weight, tokens, hidden)
        logits = _logits(hidden, block, bias, tokens, buffer, settings)
        place, is_here = _place(labels, tokens)
        chosen_q.copy_(torch.where(is_here, logits.gather(1, place)[:, 0], chosen_q))
        slope = settings.transform.slope(logits)
        if settings.temperature != 1.0:
            logits.div_(settings.temperature)
        higher = torch.maximum(peak, logits.amax(1))
        shrink = peak.sub_(higher).exp_()
        logits.sub_(higher.unsqueeze(1)).exp_()
        _overwrite(logits, place, is_here, 0.0)
        rest.mul_(shrink).add_(logits.sum(1))
        logits = _times(logits, slope)
        if mean_row is not None:
            mean_row.mul_(shrink.unsqueeze(1))
            _add_product(mean_row, logits, block)
        peak.copy_(higher)
    return logits


def _unembedding_gradients(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    at_token: Tensor,
    peak: Tensor,
    share: Tensor,
    settings: _Settings,
    needs_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Makes the logits again for the gradients of weight and bias; sums over states are wide."""
    grad_weight = torch.zeros_like(weight) if needs_weight else None
    grad_bias = None if bias is None else torch.zeros_like(bias)
    buffer = _buffer(hidden, weight, settings)
    for tokens in settings.token_slices(weight.shape[0]):
        block = _block(weight, tokens, hidden)
        # Wide, and where the weights are that, the gradient itself.
        of_block = None if grad_weight is None else grad_weight[tokens].to(at_token.dtype)
        of_bias = None if grad_bias is None else grad_bias[tokens].to(at_token.dtype)
        for rows in settings.row_slices(hidden.shape[0]):
            adjoint = _logits(hidden[rows], block, bias, tokens, buffer, settings)
            slope = settings.transform.slope(adjoint)
            if settings.temperature != 1.0:
                adjoint.div_(settings.temperature)
            adjoint.sub_(peak[rows].unsqueeze(1)).exp_().mul_(share[rows].unsqueeze(1))
            adjoint = _times(adjoint, slope)
            place, is_here = _place(labels[rows], tokens)
            _overwrite(adjoint, place, is_here, at_token[rows].unsqueeze(1))
            if of_bias is not None:
                of_bias.add_(adjoint.sum(0))
            if of_block is not None:
                _add_product(of_block, adjoint.t(), hidden[rows].to(block.dtype))
        for whole, part in ((grad_weight, of_block), (grad_bias, of_bias)):
            if whole is not None and part is not None and whole.dtype != part.dtype:
                whole[tokens] = part
    return grad_weight, grad_bias


def _wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, the type itself otherwise."""
    return torch.promote_types(dtype, torch.float32)


def _buffer(hidden: Tensor, weight: Tensor, settings: _Settings) -> Tensor:
    """The memory of one tile."""
    num_states = min(settings.tile.states, hidden.shape[0])
    num_tokens = min(settings.tile.tokens, weight.shape[0])
    return hidden.new_empty(num_states * num_tokens, dtype=_wide(hidden.dtype))


def _block(weight: Tensor, tokens: slice, hidden: Tensor) -> Tensor:
    """Some rows of the unembedding in the type of the matrix products.

    On a CPU half precision is slower than float32 and rounds each logit, so products are float32
    there; an accelerator multiplies halves and sums in float32.
    """
    dtype = _wide(hidden.dtype) if hidden.device.type == "cpu" else hidden.dtype
    return weight[tokens].to(dtype)


def _logits(
    hidden: Tensor,
    block: Tensor,
    bias: Tensor | None,
    tokens: slice,
    buffer: Tensor,
    settings: _Settings,
) -> Tensor:
    """The transformed logits of one tile, in the buffer."""
    shape = (len(hidden), len(block))
    tile = buffer[: shape[0] * shape[1]].view(shape)
    hidden = hidden.to(block.dtype)
    if block.dtype == tile.dtype:
        torch.mm(hidden, block.t(), out=tile)
    else:
        tile = torch.mm(hidden, block.t(), out_dtype=tile.dtype)
    if bias is not None:
        tile.add_(bias[tokens])
    return settings.transform.apply_(tile)


def _product(tile: Tensor, factor: Tensor) -> Tensor:
    """The matrix product, wide."""
    if factor.dtype == tile.dtype:
        return torch.mm(tile, factor)
    return torch.mm(tile.to(factor.dtype), factor, out_dtype=tile.dtype)


def _add_product(total: Tensor, tile: Tensor, factor: Tensor) -> None:
    """Adds tile @ factor to the wide total, summing wide."""
    if factor.dtype == total.dtype:
        total.addmm_(tile, factor)
    else:
        total += _product(tile, factor)


def _place(labels: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
    """Each label's column in a tile of these tokens (any column where it has none), and whether."""
    width = tokens.stop - tokens.start
    place = labels - tokens.start
    is_here = (place >= 0) & (place < width)
    return place.clamp(0, width - 1).unsqueeze(1), is_here


def _overwrite(tile: Tensor, place: Tensor, is_here: Tensor, by: Tensor | float) -> None:
    """Puts a number into each row's column, where the label stands in this tile."""
    tile.scatter_(1, place, torch.where(is_here.unsqueeze(1), by, tile.gather(1, place)))


def _times(tile: Tensor, slope: Tensor | float) -> Tensor:
    return tile if isinstance(slope, float) and slope == 1.0 else tile.mul_(slope)
