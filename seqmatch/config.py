"""The configs of a run and of a generation: frozen, serialisable, versioned.

The form, the command line and the stored JSON are all made from them, so each setting is written
once.
"""

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from seqmatch.objectives import ObjectiveConfig, SFTConfig
from seqmatch.objectives.base import Frozen
from seqmatch.objectives.dispatch import adversarial_config, in_rounds, target_decay

SCHEMA_VERSION: Literal[1] = 1
_DEVICES = r"auto|cpu(,cpu)*|cuda(,cuda)*|cuda:\d+(,cuda:\d+)*"


class AdapterConfig(Frozen):
    """What of the policy is trained."""

    kind: Literal["lora", "full"] = Field(
        "lora",
        title="Trained weights",
        description="lora: a low-rank adapter on all linear layers. full: every weight. On models "
        "below about 10 million weights LoRA is not faster (0.075 s a step against 0.076 s); on "
        "larger ones it saves the gradient of the weights and the optimiser's memory.",
    )
    rank: int = Field(8, ge=1, le=256, title="LoRA rank", description="Rank of the LoRA matrices.")
    scaling: int = Field(
        16,
        ge=1,
        le=1024,
        title="LoRA alpha",
        description="The adapter's output is multiplied by this over the rank.",
    )


class DataConfig(Frozen):
    """Which demonstrations, and how they are split and cut."""

    dataset: str = Field(min_length=1, title="Demonstrations", description="Id of a stored set.")
    heldout_fraction: float = Field(
        0.1,
        gt=0.0,
        le=0.5,
        title="Held-out share",
        description="Share of the prompts kept for evaluation; rows with one prompt stay together.",
    )
    split_seed: int = Field(0, ge=0, title="Split seed", description="Which prompts are held out.")
    max_tokens: int = Field(
        256,
        ge=8,
        le=8192,
        title="Longest row",
        json_schema_extra={"unit": "tokens"},
        description="Limit on prompt and answer together.",
    )
    too_long: Literal["drop", "cut", "stop"] = Field(
        "drop",
        title="Rows over the limit",
        description="drop: leave the row out. cut: end the episode at the limit (its stop is then "
        "forced, not demonstrated). stop: refuse to train. The number is always reported.",
    )


class OptimizationConfig(Frozen):
    """Steps, batches and the learning rate."""

    num_steps: int = Field(3000, ge=1, le=10_000_000, title="Steps", description="Optimiser steps.")
    batch_size: int = Field(
        64,
        ge=1,
        le=4096,
        title="Batch size",
        json_schema_extra={"unit": "demonstrations"},
        description="Demonstrations per step; SequenceMatch adds as many replayed rollouts.",
    )
    learning_rate: float = Field(
        1e-3, gt=0.0, le=1.0, title="Learning rate", description="Peak learning rate of AdamW."
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", title="Schedule", description="How the learning rate falls after the warm-up."
    )
    warmup_steps: int = Field(
        100,
        ge=0,
        le=1_000_000,
        title="Warm-up",
        json_schema_extra={"unit": "steps"},
        description="Steps in which the learning rate rises from zero.",
    )
    weight_decay: float = Field(
        0.0, ge=0.0, le=1.0, title="Weight decay", description="AdamW's decoupled weight decay."
    )
    max_grad_norm: float = Field(
        1.0,
        gt=0.0,
        le=1e6,
        title="Gradient clipping",
        description="Gradients are scaled down to this norm.",
    )


class EvaluationConfig(Frozen):
    """How the policy is measured while it trains."""

    every: int = Field(
        250,
        ge=1,
        le=1_000_000,
        title="Evaluate every",
        json_schema_extra={"unit": "steps"},
        description="Steps between two evaluations on held-out prompts.",
    )
    num_prompts: int = Field(
        128, ge=1, le=100_000, title="Held-out rows", description="Rows used in each evaluation."
    )
    max_new_tokens: int = Field(
        64,
        ge=1,
        le=4096,
        title="Longest answer",
        json_schema_extra={"unit": "tokens"},
        description="An answer ends after this many standing tokens even without the stop token.",
    )
    num_samples: int = Field(
        4, ge=0, le=64, title="Samples shown", description="Answers stored at each evaluation."
    )
    probe: bool = Field(
        True,
        title="Probe",
        description="Measure with a probe how far the answers are from the demonstrations, on the "
        "same axes for all runs on one base model; needs 32 held-out rows. Where all weights are "
        "trained, the base model stays in memory beside it.",
    )


class CheckpointConfig(Frozen):
    """When the state of training is written, to be resumed from."""

    every: int = Field(
        250,
        ge=1,
        le=1_000_000,
        title="Checkpoint every",
        json_schema_extra={"unit": "steps"},
        description="Steps between two checkpoints.",
    )
    keep: int = Field(
        2,
        ge=2,
        le=100,
        title="Checkpoints kept",
        description="Older ones are deleted once a newer one is verified.",
    )


class RunConfig(Frozen):
    """Everything that determines a training run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str = Field(
        "",
        max_length=120,
        title="Name",
        description="How the run is called; empty takes the objective and the data.",
    )
    base_model: str = Field(
        "byte-llama-small",
        min_length=1,
        max_length=300,
        title="Base model",
        description="A built-in model, or a folder or hub id that the operator allowed.",
    )
    data: DataConfig
    objective: ObjectiveConfig = Field(SFTConfig(), title="Objective")
    adapter: AdapterConfig = AdapterConfig(kind="full")
    optimization: OptimizationConfig = OptimizationConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        title="Seed",
        description="Seeds the order of the data, the noise, sampling and new weights.",
    )
    device: str = Field(
        "auto",
        max_length=400,
        title="Device",
        description="auto takes a GPU where there is one. Otherwise cpu, cuda or cuda:1. A list "
        "shares every batch among several, one process each, with the same result: cuda:0,cuda:1, "
        "or cuda,cuda for any two, or cpu,cpu for two processes.",
    )
    parallelism: Literal["replicate", "shard"] = Field(
        "replicate",
        title="Weights on several devices",
        description="replicate: each device holds all weights. shard: weights, gradients and the "
        "optimiser are divided among them (FSDP2), for full fine-tuning that does not fit one.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        title="Precision",
        description="Of the matrix products while training; weights, gradients and sums are always "
        "float32, and so are decoding and evaluation. auto: bfloat16 on a GPU that has it, float32 "
        "on a CPU, where without AMX bfloat16 takes 3 to 13 times as long.",
    )
    gradient_checkpointing: bool = Field(
        False,
        title="Gradient checkpointing",
        description="Runs each block of the model a second time in the backward pass instead of "
        "keeping its activations: about a third more computation a step, with LoRA a half, for a "
        "fraction of their memory, so that longer rows fit. The gradient is the same.",
    )
    packing: bool = Field(
        False,
        title="Pack rows",
        description="On a GPU the rows of a step stand one after the other, without padding, and "
        "attention leaves out what a row does not see (FlexAttention, compiled at the first "
        "step). The gradient is the same. On a CPU it is slower. Not timed on a GPU yet.",
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that train the run together, one process each."""
        return tuple(self.device.split(","))

    @field_validator("device", mode="before")
    @classmethod
    def _without_blanks(cls, device: object) -> object:
        return "".join(device.split()) if isinstance(device, str) else device

    @field_validator("device")
    @classmethod
    def _devices_can_share(cls, device: str, before: ValidationInfo) -> str:
        names = device.split(",")
        if re.fullmatch(_DEVICES, device) is None:
            raise ValueError(
                "no device, nor a list of devices of one kind; allowed: auto, cpu, cuda, cuda:1, "
                "or several as in 'cuda:0,cuda:1', 'cuda,cuda' and 'cpu,cpu'"
            )
        if ":" in device and len(set(names)) < len(names):
            raise ValueError("a GPU is named twice; each process needs its own")
        optimization = before.data.get("optimization")
        if optimization is not None and optimization.batch_size < len(names):
            raise ValueError(
                f"{len(names)} processes for batches of {optimization.batch_size}; each needs a "
                "demonstration of every batch"
            )
        return device

    @field_validator("parallelism")
    @classmethod
    def _weights_can_be_divided(cls, parallelism: str, before: ValidationInfo) -> str:
        known = before.data
        needed = ("adapter", "objective", "optimization", "device")
        if parallelism == "replicate" or not all(name in known for name in needed):
            return parallelism
        num_processes = len(known["device"].split(","))
        reason = unshardable(
            known["adapter"], known["objective"], known["optimization"], num_processes
        )
        if reason and num_processes > 1:  # one process has nothing to divide
            raise ValueError(reason)
        return parallelism

    @model_validator(mode="after")
    def _token_set_is_given(self) -> "RunConfig":
        corruption = self.objective.corruption
        if (
            self.objective.backspace
            and corruption.alphabet == "token_set"
            and not corruption.token_set
        ):
            raise ValueError(
                "objective.corruption.token_set is empty; with alphabet 'token_set' it must name "
                "the noise tokens, for example '0123456789'"
            )
        return self

    @model_validator(mode="after")
    def _second_adapter_has_a_frozen_base(self) -> "RunConfig":
        adversarial = adversarial_config(self.objective)
        is_second = adversarial is not None and adversarial.discriminator.backbone == "adapter"
        if is_second and self.adapter.kind != "lora":
            raise ValueError(
                "objective.discriminator.backbone 'adapter' is a second LoRA on the frozen base "
                "model, and with adapter.kind 'full' nothing is frozen; choose adapter.kind "
                "'lora', or the backbone 'shared'"
            )
        return self


def unshardable(
    adapter: AdapterConfig,
    objective: ObjectiveConfig,
    optimization: OptimizationConfig,
    num_processes: int,
) -> str:
    """Returns why the weights of a run cannot be divided among processes; empty where they can."""
    if adapter.kind != "full":
        return (
            "with adapter.kind 'lora' only the small adapter is trained, and each process needs "
            "the whole base model; choose 'replicate'"
        )
    if in_rounds(objective):
        return (
            f"divided weights cannot be exchanged for another policy's, as {objective.kind} does; "
            "choose 'replicate'"
        )
    if target_decay(objective):
        return (
            "divided weights cannot be exchanged for a target network's; choose 'replicate', or "
            "objective.target_decay 0"
        )
    if optimization.batch_size % num_processes:
        return (
            f"each process needs an equal part of a batch, and {optimization.batch_size} "
            f"demonstrations cannot be divided by {num_processes}; choose another batch size"
        )
    return ""
