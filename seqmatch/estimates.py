"""What a run will roughly need, from its config alone.

Estimates, not bounds: within a factor of two or so for the built-in models on CPU, else cruder.

Memory = process + 4 bytes a weight + 12 bytes a trained weight (gradient and AdamW's two moments) +
activations of one pass + two chunks of logits + key/value cache while sampling.
Time = start + steps x (operations of a step / rate + overhead) + rounds of sampling + evaluations,
each of which samples its prompts once, with a backspace action twice. Noise that the policy
proposes costs a forward pass over the demonstrations for each wrong token of the longest burst, a
target network one over demonstrations and rollouts and 4 bytes a trained weight. A round of answers
goes through the policy once more, and through each policy that judges it (4 bytes a trained weight
each); a discriminator's second adapter takes a step of its own for each update.

Of several devices each has its part of a batch and of a round, and all the weights, or its part of
them and of what belongs to them. Processes on the CPU share its cores and are taken to be as fast
as one.

Operations of one input position: 2 a weight forward, 2 backward to the activations, and 2 more for
a trained weight's gradient; the unembedding is computed once more in backward. With gradient
checkpointing the forward pass is computed twice, and a layer keeps its input alone.
The constants were fitted to measurements on two cores of a 2.5 GHz server.
"""

from dataclasses import dataclass, replace

from seqmatch.base_models import BASE_MODELS, BaseModel
from seqmatch.config import AdapterConfig, RunConfig
from seqmatch.micro_batches import BUDGET_BYTES
from seqmatch.objectives import CorruptionConfig, ObjectiveConfig
from seqmatch.objectives.dispatch import (
    adversarial_config,
    has_reference,
    has_start,
    in_rounds,
    rollout_config,
    steps_with_rollouts,
    steps_with_target,
    target_decay,
)

PROCESS_BYTES = 550e6
"""torch, transformers and peft in memory, without a model."""
ACTIVATIONS_PER_LAYER = 24
"""Numbers kept for backward, a position, a layer and a unit of width."""
HALF_ON_CPU = 6.0
"""So many times as long takes training in bfloat16 on a CPU without AMX: between the 3 of products
with AVX-512 and the 13 of a whole step with AVX2."""
LORA_WIDTHS_PER_LAYER = 18
"""Inputs plus outputs of a layer's linear maps, in widths."""
LOGIT_CHUNK = 256
START_SECONDS = 8.0
"""From the claim of a run to its first step: a process, imports, the model."""
SHARE_OF_LIMIT = 0.25
"""Assumed mean length of a row, as a share of the limit, where it is not known."""


@dataclass(frozen=True)
class Speed:
    """What a kind of device does."""

    flops: float
    """Operations per second in training."""
    decode_flops: float
    """The same while sampling, one position a row at a time."""
    bytes_per_second: float
    """At which all weights are read for one sampled token."""
    seconds_per_layer: float
    """Overhead of one layer's forward and backward pass."""

    def times(self, count: int) -> "Speed":
        """Returns the speed of so many devices of the kind, working on one batch."""
        return replace(self, flops=count * self.flops, decode_flops=count * self.decode_flops)


CPU = Speed(75e9, 13e9, 6e9, 0.005)
GPU = Speed(2e13, 2e12, 1e12, 0.002)


@dataclass(frozen=True)
class Estimate:
    """What a run will roughly need."""

    memory_bytes: int
    """Of each device."""
    seconds: float


def estimate(config: RunConfig, mean_tokens: float | None = None) -> Estimate:
    """Returns memory and time of a run.

    Args:
        config: The run. A base model that is not built in is taken to be like SmolLM2.
        mean_tokens: Mean length of a row, prompt and answer; by default a quarter of the limit.
    """
    model = BASE_MODELS.get(config.base_model, BASE_MODELS["smollm2-135m-instruct"])
    rollouts = rollout_config(config.objective)
    length = mean_tokens or SHARE_OF_LIMIT * config.data.max_tokens
    batch_size = config.optimization.batch_size
    num_devices = len(config.devices)
    memory = estimate_memory_bytes(
        model,
        config.adapter,
        -(-batch_size // num_devices),
        config.data.max_tokens,
        has_rollouts=rollouts is not None,
        num_copies=num_copies(config),
        num_shards=num_devices if config.parallelism == "shard" else 1,
        is_checkpointed=config.gradient_checkpointing,
    )
    if config.evaluation.probe and config.adapter.kind == "full":
        memory += 4 * model.num_parameters
    speed = _speed(config)
    is_checkpointed = config.gradient_checkpointing
    step = estimate_step_seconds(
        model, config.adapter, batch_size * length, speed, is_checkpointed=is_checkpointed
    )
    seconds = START_SECONDS + step * config.optimization.num_steps
    seconds += _evaluation_seconds(config, model, length, speed)
    seconds += _further_passes(config, rollouts is not None) * estimate_forward_seconds(
        model, batch_size * length, speed
    )
    if rollouts is not None:
        sampled_steps = steps_with_rollouts(config.objective, config.optimization.num_steps)
        rounds = sampled_steps / rollouts.every
        new_tokens = min(rollouts.max_new_tokens, length)
        seconds += step * sampled_steps  # as many replayed rollouts again
        if in_rounds(config.objective):
            forward = estimate_forward_seconds(model, rollouts.batch_size * length, speed)
            seconds += rounds * (1 + num_judges(config.objective)) * forward
        adversarial = adversarial_config(config.objective)
        if adversarial is not None and adversarial.discriminator.backbone == "adapter":
            own = 2 * batch_size * length
            own = estimate_step_seconds(
                model, config.adapter, own, speed, is_checkpointed=is_checkpointed
            )
            seconds += adversarial.discriminator.updates * own * sampled_steps
        seconds += rounds * estimate_sampling_seconds(model, rollouts.batch_size, new_tokens, speed)
    return Estimate(memory, seconds)


def _speed(config: RunConfig) -> Speed:
    if config.device.startswith("cuda"):
        return GPU.times(len(config.devices))
    return replace(CPU, flops=CPU.flops / HALF_ON_CPU) if config.precision == "bfloat16" else CPU


def num_judges(objective: ObjectiveConfig) -> int:
    """Returns how many held policies say something of each round."""
    return int(has_reference(objective)) + int(has_start(objective))


def num_copies(config: RunConfig) -> int:
    """Returns how many further copies of the trained weights a run keeps."""
    return num_judges(config.objective) + int(target_decay(config.objective) > 0.0)


def _further_passes(config: RunConfig, has_rollouts: bool) -> float:
    """Forward passes over the positions of a batch of demonstrations, without gradient."""
    num_steps = config.optimization.num_steps
    sides = 2 if has_rollouts else 1
    passes = sides * steps_with_target(config.objective, num_steps)
    if config.objective.backspace:
        passes += num_steps * _passes_of_noise(config.objective.corruption)
    return passes


def _passes_of_noise(corruption: CorruptionConfig) -> int:
    return corruption.burst if corruption.alphabet == "model_top_k" and corruption.rate else 0


def _evaluation_seconds(config: RunConfig, model: BaseModel, length: float, speed: Speed) -> float:
    evaluation = config.evaluation
    rounds = config.optimization.num_steps // evaluation.every + 1
    new_tokens = min(evaluation.max_new_tokens, length)
    modes = 2 if config.objective.backspace else 1
    once = estimate_sampling_seconds(model, evaluation.num_prompts, new_tokens, speed)
    return rounds * modes * once


def estimate_memory_bytes(
    model: BaseModel,
    adapter: AdapterConfig,
    batch_size: int,
    max_tokens: int,
    *,
    has_rollouts: bool,
    num_copies: int = 0,
    num_shards: int = 1,
    is_checkpointed: bool = False,
) -> int:
    """Returns the peak memory of training, in bytes, by the formula of this module.

    Args:
        model: Numbers of the base model.
        adapter: What is trained.
        batch_size: Demonstrations a step.
        max_tokens: Limit on a row's prompt and answer.
        has_rollouts: Whether as many replayed rollouts are trained on too.
        num_copies: How many further copies of the trained weights are kept.
        num_shards: Into how many parts all that is kept of the weights is divided.
        is_checkpointed: Whether layers run again in the backward pass, one at a time.
    """
    positions = batch_size * max_tokens * (2 if has_rollouts else 1)
    trained_bytes = 12.0 + 4.0 * num_copies
    weights = 4.0 * model.num_parameters + trained_bytes * num_trained(model, adapter)
    kept = ACTIVATIONS_PER_LAYER * model.num_layers
    if is_checkpointed:
        kept = ACTIVATIONS_PER_LAYER + model.num_layers
    activations = 4.0 * positions * kept * model.hidden_size
    activations = min(activations, BUDGET_BYTES)  # larger batches go through in several passes
    logits = 2 * 4.0 * LOGIT_CHUNK * model.vocab_size
    cache = (1 << 30) if has_rollouts and model.num_parameters > 10e6 else 0
    return int(PROCESS_BYTES + weights / num_shards + activations + logits + cache)


def estimate_step_seconds(
    model: BaseModel,
    adapter: AdapterConfig,
    positions: float,
    speed: Speed = CPU,
    *,
    is_checkpointed: bool = False,
) -> float:
    """Returns the time of one optimiser step over so many input positions, in seconds."""
    flops = estimate_step_flops(model, adapter, positions, is_checkpointed=is_checkpointed)
    return flops / speed.flops + speed.seconds_per_layer * (model.num_layers + 2)


def estimate_step_flops(
    model: BaseModel, adapter: AdapterConfig, positions: float, *, is_checkpointed: bool = False
) -> float:
    """Returns the operations of one optimiser step, by the formula of this module.

    (4P + 2 trained + 2 unembedding) a position, and 2P more where layers run again.
    """
    passes = 6.0 if is_checkpointed else 4.0
    trained = num_trained(model, adapter)
    head = model.hidden_size * model.vocab_size
    return positions * (passes * model.num_parameters + 2.0 * trained + 2.0 * head)


def estimate_forward_seconds(model: BaseModel, positions: float, speed: Speed = CPU) -> float:
    """Returns the time of one forward pass without gradient over so many input positions."""
    overhead = speed.seconds_per_layer * (model.num_layers + 2) / 3
    return 2.0 * model.num_parameters * positions / speed.flops + overhead


def estimate_sampling_seconds(
    model: BaseModel, num_rows: int, new_tokens: float, speed: Speed = CPU
) -> float:
    """Returns the time of sampling so many tokens for each of some rows, in seconds."""
    compute = 2.0 * model.num_parameters * num_rows / speed.decode_flops
    reading = 4.0 * model.num_parameters / speed.bytes_per_second
    overhead = speed.seconds_per_layer * (model.num_layers + 2) / 3
    return new_tokens * (max(compute, reading) + overhead)


def num_trained(model: BaseModel, adapter: AdapterConfig) -> int:
    """Returns about how many weights are trained."""
    if adapter.kind == "full":
        return model.num_parameters
    return LORA_WIDTHS_PER_LAYER * adapter.rank * model.hidden_size * model.num_layers
