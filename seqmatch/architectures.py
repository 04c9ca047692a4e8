"""Which architectures the method is exact on, and up to which position.

The method needs `logits = head(hidden state)` and a hidden state that is a function of the visible
prefix alone. Where a model loses the second only beyond some position (a sliding window, rotary
frequencies that change with length), that position is the limit and the model is accepted.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.errors import ModelLoadError
from seqmatch.soft_q import transform_of

if TYPE_CHECKING:
    from seqmatch.policy import Policy

TOLERANCE = 1e-2
"""Of the checks on a loaded model, relative to the spread of what is compared."""
_FULL, _SLIDING = "full_attention", "sliding_attention"
_LENGTH_DEPENDENT = "longrope"
"""Rotary embeddings whose frequencies depend on the longest row of the batch. Those of "dynamic" do
too, but beyond `max_position_embeddings` only."""
_PROBE = 5
"""Tokens of the sequence that the checks read."""


def position_limit(config: Any) -> int | None:
    """Returns how many positions a model reads exactly, prompt and answer together.

    The least of: its trained context; its sliding window W, since the last of W positions still
    sees the first, so that up to there the window is full attention; the original context of
    rotary embeddings whose frequencies change beyond it ("longrope"), by which one row of a batch
    would change the others.

    Args:
        config: A config of transformers.

    Returns:
        The limit, or None where the model has none.
    """
    limits = [getattr(config, "max_position_embeddings", None)]
    if _SLIDING in _layer_types(config):
        limits.append(getattr(config, "sliding_window", None))
    limits += _rope_limits(config)
    found = [int(limit) for limit in limits if limit]
    return min(found) if found else None


def check_architecture(model: nn.Module, name: str) -> None:
    """Refuses a model for which `values = head(hidden(prefix))` does not hold.

    The config is asked about other kinds of layers than attention; then small forward passes are
    compared: the model's own logits with the head's, scaled and capped as the config says, a
    sequence with its beginning alone, and a sequence with a hidden slot in the middle with the same
    sequence without that slot.

    Raises:
        ModelLoadError: One of the checks failed; the message says which, and what is supported.
    """
    config: Any = model.config
    _check_kind(model, config, name)
    backbone, head = backbone_and_head(model, name)
    length = min(_PROBE, position_limit(config) or _PROBE)
    ids = torch.arange(1, length + 1)[None] % config.vocab_size
    try:
        with torch.no_grad():
            own = model(input_ids=ids, use_cache=False).logits
            states = backbone(input_ids=ids, use_cache=False).last_hidden_state
            first = backbone(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            with_a_hole = _last_state_with_a_hidden_slot(backbone, ids)
            logits = transform_of(config).of(head(states))
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise ModelLoadError(
            f"{name} ({type(model).__name__}) cannot be run with explicit positions and attention "
            f"masks, which deleting a token needs: {error}. Decoders with rotary or learned "
            "positions are supported"
        ) from error
    if not _agree(states[:, :-1], first):
        raise ModelLoadError(
            f"{name} lets a token see what comes after it; causal attention is supported"
        )
    if not _agree(states[:, -1], with_a_hole):
        raise ModelLoadError(
            f"{name} does not follow position ids and attention masks (ALiBi, convolutions or "
            "the like); models with rotary or learned positions are supported"
        )
    if not _agree(own, logits):
        raise ModelLoadError(
            f"{name} changes its logits after the last linear layer by more than a scale or a soft "
            "cap that its config tells of, which the soft value does not know"
        )


def check_decoding(policy: "Policy", name: str) -> None:
    """Refuses a model whose cached decoding differs from reading the prefix afresh.

    A token is pushed, taken back and another one pushed, each row at its own length.

    Raises:
        ModelLoadError: The two differ, or the model does not run with a plain cache of one entry
            for each layer (layers that share keys and values, for example).
    """
    prompts = [(1, 2, 3), (4,)]
    both = np.arange(2)
    try:
        states = LivePrefixes(
            policy, num_rows=2, longest_prompt=3, max_depth=2, backspace=policy.space.has_backspace
        )
        states.add(prompts)
        states.push(both, np.array([1, 2]))
        states.pop(both[:1])
        states.push(both, np.array([3, 4]))
        found = states.current(both)
        with torch.no_grad():
            expected = [
                policy.hidden_states(torch.tensor([row], device=policy.device))[0, -1]
                for row in ((1, 2, 3, 3), (4, 2, 4))
            ]
        is_right = _agree(torch.stack(expected), found)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError) as error:
        raise ModelLoadError(
            f"{name} does not decode with one cache of keys and values for each layer: {error}"
        ) from error
    if not is_right:
        raise ModelLoadError(
            f"{name} gives other states when it decodes with a cache of keys and values than when "
            "it reads the text afresh; deleting a token would be wrong on it"
        )


def backbone_and_head(model: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """Returns the module that gives the last hidden states, and the unembedding after it."""
    backbone = getattr(model, str(getattr(model, "base_model_prefix", "")), None)
    head = model.get_output_embeddings()  # type: ignore[operator]  # of PreTrainedModel
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        raise ModelLoadError(f"{name} has no separate backbone and unembedding")
    return backbone, head


def _check_kind(model: nn.Module, config: Any, name: str) -> None:
    if config.get_text_config() is not config:
        raise ModelLoadError(
            f"{name} ({type(model).__name__}) reads more than text; models of text alone are "
            "supported, for example the text-only checkpoints of the same family"
        )
    layer_types = _layer_types(config)
    if getattr(model, "_is_stateful", False):
        raise ModelLoadError(
            f"{name} ({type(model).__name__}) keeps a recurrent state (layers of type "
            f"{', '.join(sorted(layer_types))}), from which no token can be deleted; attention in "
            "every layer is supported"
        )
    if others := sorted(layer_types - {_FULL, _SLIDING}):
        raise ModelLoadError(
            f"{name} has layers of type {', '.join(others)}; deleting a token needs full "
            "attention, or a sliding window, in every layer"
        )
    if _SLIDING in layer_types and not getattr(config, "sliding_window", None):
        raise ModelLoadError(
            f"{name} has layers with a sliding window, but its config does not tell the window "
            "(sliding_window), within which it would be exact"
        )


def _layer_types(config: Any) -> set[str]:
    """The kinds of layers; older configs tell a window without naming layer types."""
    if named := getattr(config, "layer_types", None):
        return set(named)
    if "local" in (getattr(config, "attention_layers", None) or ()):
        return {"local attention"}  # GPT-Neo: a window over slots, whatever the mask says
    windowed = getattr(config, "use_sliding_window", True) and getattr(
        config, "sliding_window", None
    )
    return {_SLIDING if windowed else _FULL}


def _rope_limits(config: Any) -> list[int | None]:
    """The original contexts of rotary embeddings that change with length, one a kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [one for one in rope.values() if one]
    return [
        one.get("original_max_position_embeddings")
        or getattr(config, "original_max_position_embeddings", None)
        for one in kinds
        if isinstance(one, dict) and one.get("rope_type") == _LENGTH_DEPENDENT
    ]


def _last_state_with_a_hidden_slot(backbone: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """The last hidden state where one more slot stands in the middle that nothing attends to."""
    length = ids.shape[1]
    middle = length // 2
    with_slot = torch.cat([ids[:, :middle], ids[:, :1], ids[:, middle:]], dim=1)
    positions = torch.cat([torch.arange(middle + 1), torch.arange(middle, length)])[None]
    sees = torch.ones(length + 1, length + 1).tril().bool()
    sees[middle + 1 :, middle] = False
    mask = torch.zeros(1, 1, length + 1, length + 1)
    mask = mask.masked_fill(~sees, torch.finfo(mask.dtype).min)
    output = backbone(
        input_ids=with_slot, position_ids=positions, attention_mask=mask, use_cache=False
    )
    return output.last_hidden_state[:, -1]  # type: ignore[no-any-return]


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    spread = one.std().item() + 1e-6
    return (one - other).abs().max().item() <= TOLERANCE * spread
