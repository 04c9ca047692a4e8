"""The operator's front: what it computes, what it refuses, and by which engine."""

from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from seqmatch.errors import ConfigError
from seqmatch.soft_q.by_torch import CHUNK, by_torch
from seqmatch.soft_q.tiled import Tile, by_tiles, tile_for
from seqmatch.soft_q.transform import IDENTITY, LogitTransform

Backend = Literal["tiled", "torch"]
"""`tiled` is this package's own operator, `torch` is built on torch's `linear_cross_entropy`."""


def chosen_q_and_soft_value(
    hidden: Float[Tensor, "n hidden"],
    weight: Float[Tensor, "vocab hidden"],
    bias: Float[Tensor, " vocab"] | None,
    backspace_row: Float[Tensor, " hidden"] | None,
    actions: Int[Tensor, " n"],
    can_delete: Bool[Tensor, " n"],
    is_action: Bool[Tensor, " n"],
    *,
    temperature: float = 1.0,
    transform: LogitTransform = IDENTITY,
    tile: Tile | None = None,
    backend: Backend = "tiled",
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Computes the label's logit and the soft value of each state.

        l(x|s) = f(<W_x, h> + b_x),   l(bkspc|s) = f(<w, h>)
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
        temperature: T, above 0. 1 is the soft value of SequenceMatch; the gradient of V in the
            logits is softmax(l/T).
        transform: f, of models that change their logits after the unembedding.
        tile: States and tokens whose logits are held at a time; None chooses by device. The torch
            backend holds `tile.states` (None: 256) x `vocab`.
        backend: The engine. `torch` knows neither half precision (its losses are rounded to the
            type of `hidden`) nor transforms.

    Returns:
        Q and V in nats, in float32 or wider.

    Raises:
        ConfigError: A label that is not an action of its state, a tile below 1 x 1, a temperature
            that is not above 0, or what the torch backend does not know.

    Source: Q and V of Cundy & Ermon (arXiv 2306.05426), section on the practical objective.
    """
    if tile is not None and min(tile) < 1:
        raise ConfigError(f"tile is {tile.states} x {tile.tokens}; allowed: at least 1 x 1")
    if not temperature > 0.0:
        raise ConfigError(f"temperature is {temperature}; allowed: above 0")
    _check_actions(weight.shape[0], backspace_row, actions, can_delete, is_action)
    labels = actions.where(is_action, -1)
    inputs = (hidden, weight, bias, backspace_row, labels, can_delete)
    if backend == "torch":
        return by_torch(*inputs, temperature, transform, tile.states if tile else CHUNK)
    tile = tile or tile_for(hidden.shape[0], weight.shape[0], hidden.device)
    return by_tiles(*inputs, temperature, transform, tile)


def _check_actions(
    vocab: int,
    backspace_row: Tensor | None,
    actions: Int[Tensor, " n"],
    can_delete: Bool[Tensor, " n"],
    is_action: Bool[Tensor, " n"],
) -> None:
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
