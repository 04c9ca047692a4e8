"""Q-values and soft values from hidden states, without ever holding the logits of all tokens.

Every loss of this project is a function of two numbers a state: Q(s, y) = l(y|s), the logit of the
label, and V(s) = logsumexp l(.|s), in one of them at a temperature. With upstream gradients g_Q and
g_V the adjoint of the logits is g_V softmax(l) + g_Q onehot(y), so it is enough to keep V and to
compute each chunk of logits again in the backward pass. Any function of (Q, V) works, including
losses that couple t with t + 1.

Peak memory is chunk x vocab instead of tokens x vocab. Half-precision logits are reduced in float32
and weight gradients are summed in float32: summing them in bfloat16 biases training.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from seqmatch.errors import ConfigError

_Gradients = tuple[
    Tensor | None, Tensor | None, Tensor | None, Tensor | None, None, None, None, None, None
]


def chosen_q_and_soft_value(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    backspace_row: Float[Tensor, " hidden"] | None,
    actions: Int[Tensor, " n"],
    can_delete: Bool[Tensor, " n"],
    is_action: Bool[Tensor, " n"],
    chunk: int = 256,
    temperature: float = 1.0,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Computes the label's logit and the soft value of each state.

        l(x|s) = <W_x, h> + b_x,   l(bkspc|s) = <w, h>
        Q = l(y|s),   V = T logsumexp(l/T) over the tokens, and backspace where it exists

    Differentiable once in `hidden`, `weight`, `bias` and `backspace_row`; the gradients of frozen
    ones are not computed. An unembedding that is tied to the input embedding needs nothing special.

    Args:
        hidden: Final hidden states, what the unembedding is applied to.
        weight: The unembedding.
        bias: Its bias, or None.
        backspace_row: The unembedding row of backspace, or None where the policy has no backspace.
        actions: Labels; the id `vocab` is backspace. Ignored where `is_action` is False.
        can_delete: Where the backspace action exists; elsewhere V leaves it out.
        is_action: False at terminal states, which have a value but no label; their Q is 0.
        chunk: Number of states whose logits are held at a time.
        temperature: T, above 0. 1 is the soft value of SequenceMatch; the gradient of V in the
            logits is softmax(l/T).

    Returns:
        Q and V in nats, in float32 or wider.

    Raises:
        ConfigError: A label that is not an action of its state, a chunk below 1, or a temperature
            that is not above 0.

    Source: Q and V of Cundy & Ermon (arXiv 2306.05426), section on the practical objective.
    """
    _check(weight, backspace_row, actions, can_delete, is_action, chunk)
    if not temperature > 0.0:
        raise ConfigError(f"temperature is {temperature}; allowed: above 0")
    if backspace_row is not None:
        backspace_row = backspace_row.to(hidden.dtype)
    inputs = (hidden, weight, bias, backspace_row, actions, can_delete, is_action)
    chosen_q, values = _ChosenQAndSoftValue.apply(*inputs, chunk, temperature)  # type: ignore[no-untyped-call]
    return chosen_q, values


class _ChosenQAndSoftValue(torch.autograd.Function):
    """The operator; the shapes are those of `chosen_q_and_soft_value`."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        backspace_row: Tensor | None,
        actions: Tensor,
        can_delete: Tensor,
        is_action: Tensor,
        chunk: int,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        """Reduces the logits chunk by chunk to Q and V."""
        vocab = weight.shape[0]
        wide = _wide(hidden.dtype)
        is_insert = is_action & (actions != vocab)
        token = actions.where(is_insert, 0)
        chosen_q = hidden.new_empty(hidden.shape[0], dtype=wide)
        values = hidden.new_empty(hidden.shape[0], dtype=wide)
        buffer = hidden.new_empty(min(chunk, hidden.shape[0]), vocab)
        for start in range(0, hidden.shape[0], chunk):
            rows = slice(start, start + chunk)
            logits = _logits(hidden[rows], weight, bias, buffer)
            chosen_q[rows] = logits.gather(1, token[rows].unsqueeze(1)).squeeze(1)
            if temperature != 1.0:
                logits.div_(temperature)
            values[rows] = logits.logsumexp(1)
        chosen_q = chosen_q.where(is_insert, 0.0)
        if backspace_row is not None:
            backspace = (hidden @ backspace_row).to(wide)
            with_backspace = values.logaddexp(backspace / temperature)
            values = torch.where(can_delete, with_backspace, values)
            chosen_q = torch.where(is_action & ~is_insert, backspace, chosen_q)
        values = values * temperature
        ctx.save_for_backward(
            hidden, weight, bias, backspace_row, token, can_delete, is_action, is_insert, values
        )
        ctx.chunk, ctx.temperature = chunk, temperature
        return chosen_q, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_q: Tensor, grad_v: Tensor) -> _Gradients:
        """Recomputes each chunk of logits and applies the adjoint of the module docstring."""
        hidden, weight, bias, row, token, can_delete, is_action, is_insert, values = (
            ctx.saved_tensors
        )
        needs_hidden, needs_weight, needs_bias, needs_row = ctx.needs_input_grad[:4]
        wide = values.dtype
        insert_grad = grad_q.where(is_insert, 0.0)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        grad_bias = torch.zeros_like(bias, dtype=wide) if needs_bias else None
        buffer = hidden.new_empty(min(ctx.chunk, hidden.shape[0]), weight.shape[0])
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            adjoint = _logits(hidden[rows], weight, bias, buffer)
            adjoint.sub_(values[rows].unsqueeze(1))
            if ctx.temperature != 1.0:
                adjoint.div_(ctx.temperature)
            adjoint.exp_().mul_(grad_v[rows].unsqueeze(1))
            adjoint.scatter_add_(1, token[rows].unsqueeze(1), insert_grad[rows].unsqueeze(1))
            if grad_bias is not None:
                grad_bias += adjoint.sum(0)
            adjoint = adjoint.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(adjoint, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                _add_product(grad_weight, adjoint.t(), hidden[rows])
        grad_row = None
        if row is not None:
            above = (hidden @ row).to(wide) - values
            adjoint = (above / ctx.temperature).exp() * grad_v
            adjoint = adjoint.where(can_delete, 0.0) + grad_q.where(is_action & ~is_insert, 0.0)
            adjoint = adjoint.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden.addr_(adjoint, row)
            grad_row = adjoint @ hidden if needs_row else None
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            grad_row,
            *(None, None, None, None, None),
        )


def _wide(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, the type itself otherwise."""
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """The logits of one chunk, in the one buffer where that is wide enough."""
    logits = torch.mm(hidden, weight.t(), out=buffer[: hidden.shape[0]])
    wide = logits.to(_wide(logits.dtype))
    return wide if bias is None else wide.add_(bias)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds left @ right to the total, in place where the types agree."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


def _check(
    weight: Tensor,
    backspace_row: Tensor | None,
    actions: Tensor,
    can_delete: Tensor,
    is_action: Tensor,
    chunk: int,
) -> None:
    if chunk < 1:
        raise ConfigError(f"chunk is {chunk}; allowed: at least 1")
    vocab = weight.shape[0]
    if backspace_row is None and bool(can_delete.any()):
        raise ConfigError("can_delete is True somewhere, but the policy has no backspace row")
    is_backspace = actions == vocab
    exists = (actions >= 0) & ((actions < vocab) | (is_backspace & can_delete))
    wrong = (is_action & ~exists).nonzero()
    if len(wrong):
        place = int(wrong[0])
        raise ConfigError(
            f"label {int(actions[place])} at position {place} is not an action of its state; "
            f"allowed: 0 to {vocab - 1}, and {vocab} (backspace) where can_delete is True"
        )
