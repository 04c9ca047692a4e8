"""Base models and their tokenizers, by name: the built-in ones, and what the operator allowed.

Only safetensors are read and no code that comes with a model is run. A model on which single-pass
training or decoding with backspace would be wrong is refused (`architectures`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from seqmatch import packaged_model, scratch_model
from seqmatch.architectures import check_architecture
from seqmatch.base_models import BASE_MODELS
from seqmatch.errors import ModelLoadError


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
