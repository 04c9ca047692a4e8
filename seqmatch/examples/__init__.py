"""The bundled examples: demonstrations that are there without an upload or a network.

frozen = prepare_example("arithmetic", data_dir / "demonstrations")
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqmatch.errors import unknown_name
from seqmatch.examples import arithmetic, instructions
from seqmatch.ingest.frozen import FrozenSet, freeze_demonstrations
from seqmatch.objectives import CONFIGS
from seqmatch.objectives.dispatch import in_rounds
from seqmatch.types import Demonstration

_ARITHMETIC: dict[str, Any] = {
    "base_model": "byte-llama-small",
    "data": {
        # Rounded for the form: 0.0909 of 5,500 rows is 500 as well.
        "heldout_fraction": round(
            arithmetic.NUM_HELDOUT / (arithmetic.NUM_TRAIN + arithmetic.NUM_HELDOUT), 4
        ),
        "max_tokens": 32,
    },
    "adapter": {"kind": "full"},
    "objective": {
        "backspace": True,
        "corruption": {"rate": 0.05, "alphabet": "token_set", "token_set": "0123456789"},
    },
    "optimization": {
        "num_steps": 3500,
        "batch_size": 64,
        "learning_rate": 1e-3,
        "warmup_steps": 100,
    },
    "evaluation": {"every": 250, "num_prompts": 128, "max_new_tokens": 8, "num_samples": 4},
    "checkpoints": {"every": 500},
}
_INSTRUCTIONS: dict[str, Any] = {
    "base_model": "smollm2-135m-instruct",
    "data": {"heldout_fraction": 0.1, "max_tokens": 128},
    "adapter": {"kind": "lora", "rank": 8, "scaling": 16},
    "objective": {"backspace": True, "corruption": {"rate": 0.02}},
    "optimization": {
        "num_steps": 40,
        "batch_size": 4,
        "learning_rate": 2e-4,
        "warmup_steps": 4,
    },
    "evaluation": {"every": 20, "num_prompts": 8, "max_new_tokens": 32, "num_samples": 2},
    "checkpoints": {"every": 20},
}


@dataclass(frozen=True)
class Example:
    """One bundled set of demonstrations."""

    name: str
    title: str
    description: str
    licence: str
    load: Callable[[], list[Demonstration]]
    suggested_config: Mapping[str, Any]
    """Settings of a `RunConfig` that suit it, whatever the objective."""
    rollouts: Mapping[str, Any]
    """Settings of replayed rollouts, for the objectives that replay some."""
    in_rounds: Mapping[str, Any]
    """Settings of an objective that is trained on rounds of fresh answers."""

    @property
    def suggested(self) -> dict[str, dict[str, Any]]:
        """Settings of a `RunConfig` by kind of objective; what is absent keeps its default."""
        common = dict(self.suggested_config)
        suggested = {}
        for kind, config in CONFIGS.items():
            objective = {"kind": kind, **common["objective"]}
            if in_rounds(config()):  # type: ignore[arg-type]
                known = {name for name in self.in_rounds if name in config.model_fields}
                objective |= {name: self.in_rounds[name] for name in known}
            elif "rollouts" in config.model_fields:
                objective["rollouts"] = dict(self.rollouts)
            if kind == "spin":
                objective["backspace"] = False
            suggested[kind] = common | {"objective": objective}
        return suggested


EXAMPLES: dict[str, Example] = {
    example.name: example
    for example in (
        Example(
            name="arithmetic",
            title="Arithmetic",
            description="5,500 additions of three-digit numbers, such as 123+456=579. Small "
            "enough to train a model from scratch in minutes on two cores.",
            licence="generated; no rights reserved",
            load=arithmetic.generate,
            suggested_config=_ARITHMETIC,
            rollouts={
                "every": 50,
                "batch_size": 256,
                "buffer_size": 1024,
                "max_new_tokens": 8,
            },
            in_rounds={
                "rollouts": {"every": 4, "batch_size": 256, "max_new_tokens": 8},
                "warmup_fraction": 0.6,
            },
        ),
        Example(
            name="instructions",
            title="Short instructions",
            description=instructions.DESCRIPTION,
            licence=instructions.LICENCE,
            load=instructions.load,
            suggested_config=_INSTRUCTIONS,
            rollouts={"every": 10, "batch_size": 4, "buffer_size": 32, "max_new_tokens": 32},
            in_rounds={
                "rollouts": {"every": 4, "batch_size": 8, "buffer_size": 32, "max_new_tokens": 32},
                "policy_step": {"answers_per_prompt": 2},
                "discriminator": {"warmup_steps": 4},
            },
        ),
    )
}


def get_example(name: str) -> Example:
    """Returns the bundled example of this name.

    Raises:
        UnknownNameError: there is no such example.
    """
    if name not in EXAMPLES:
        raise unknown_name("example", name, EXAMPLES)
    return EXAMPLES[name]


def prepare_example(name: str, root: Path) -> FrozenSet:
    """Freezes a bundled example under its content hash in `root`; done already, nothing changes.

    Raises:
        UnknownNameError: there is no such example.
    """
    return freeze_demonstrations(get_example(name).load(), root)
