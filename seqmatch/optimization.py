"""AdamW, the learning rate as a function of the step, and the step that refuses non-finite numbers.

The schedule is a function, not an object with state, so there is nothing of it to save; a skipped
step does not advance it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

from seqmatch.config import OptimizationConfig
from seqmatch.errors import CheckpointError

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(
    parameters: Mapping[str, Parameter], config: OptimizationConfig
) -> torch.optim.AdamW:
    """Returns AdamW over the named parameters; vectors (norms, biases) are not decayed."""
    groups = []
    for is_sharded in (False, True):  # one fused operation cannot take both
        alike = [each for each in parameters.values() if isinstance(each, DTensor) is is_sharded]
        matrices = [parameter for parameter in alike if parameter.ndim > 1]
        vectors = [parameter for parameter in alike if parameter.ndim <= 1]
        groups += [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.learning_rate, fused=True
    )


def learning_rate_at(num_updates: int, config: OptimizationConfig) -> float:
    """Returns the learning rate of the update that follows `num_updates` updates.

    Linear from zero over the warm-up, then constant, or linear or cosine down to zero at
    `num_steps`.
    """
    if num_updates < config.warmup_steps:
        return config.learning_rate * (num_updates + 1) / config.warmup_steps
    remaining = max(config.num_steps - config.warmup_steps, 1)
    progress = min((num_updates - config.warmup_steps) / remaining, 1.0)
    if config.schedule == "linear":
        return config.learning_rate * (1.0 - progress)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate


@dataclass(frozen=True)
class UpdateOutcome:
    """What came of one optimiser step."""

    is_finite: bool
    """False where the loss or a gradient was not finite; nothing was changed then."""
    grad_norm: float
    """Norm of all gradients before clipping."""


def apply_gradients(
    optimizer: torch.optim.Optimizer, loss: float, learning_rate: float, max_grad_norm: float
) -> UpdateOutcome:
    """Clips the gradients to a norm and steps, unless the loss or the norm is not finite.

    Gradients are cleared either way.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    grad_norm = _clipped(parameters, max_grad_norm)
    is_finite = math.isfinite(loss) and math.isfinite(grad_norm)
    if is_finite:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return UpdateOutcome(is_finite, grad_norm)


def _clipped(parameters: Sequence[Parameter], max_norm: float) -> float:
    """Scales gradients down to a norm, which is that of shards and others together."""
    sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    if not sharded:
        return float(clip_grad_norm_(parameters, max_norm))
    others = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    norms = []
    for group in (others, sharded):
        gradients = [parameter.grad for parameter in group if parameter.grad is not None]
        norms.append(whole(get_total_norm(gradients)))
    norm = torch.stack(norms).norm()
    for group in (others, sharded):
        clip_grads_with_norm_(group, max_norm, norm)
    return float(norm)


def are_finite(parameters: Mapping[str, Parameter]) -> bool:
    """Tells whether every element of every parameter is finite."""
    return all(bool(torch.isfinite(local(each.detach())).all()) for each in parameters.values())


def local(tensor: Tensor) -> Tensor:
    """Returns what this process holds of a tensor: all of it, or its shard."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Returns all of a tensor; of a sharded one every process must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Parameter]
) -> dict[str, Tensor]:
    """Returns the optimiser's state as tensors named `moment/parameter`; empty before a step.

    Sharded ones are made whole, so every process must call this.
    """
    return {
        f"{moment}/{name}": whole(optimizer.state[parameter][moment].detach()).cpu().contiguous()
        for name, parameter in parameters.items()
        if parameter in optimizer.state
        for moment in _MOMENTS
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, Parameter],
    tensors: Mapping[str, Tensor],
) -> None:
    """Sets the optimiser's state to what `optimizer_tensors` returned.

    Raises:
        CheckpointError: A tensor belongs to no parameter, or one is missing.
    """
    expected = {f"{moment}/{name}" for name in parameters for moment in _MOMENTS}
    if tensors and set(tensors) != expected:
        odd = sorted(set(tensors) ^ expected)[:3]
        raise CheckpointError(
            f"the optimiser's state has {len(tensors)} tensors where {len(parameters)} trainable "
            f"parameters need {len(expected)}; they differ at {', '.join(odd)}"
        )
    for name, parameter in parameters.items():
        if tensors:
            optimizer.state[parameter] = {
                moment: _placed_like(parameter, tensors[f"{moment}/{name}"]) for moment in _MOMENTS
            }


def _placed_like(parameter: Parameter, moment: Tensor) -> Tensor:
    """A moment where its parameter is; the same part of it, where that is a shard."""
    placed = moment.clone().to(parameter.device)
    if isinstance(parameter, DTensor) and moment.ndim:  # the count of steps is never divided
        mesh, placements = parameter.device_mesh, parameter.placements
        return distribute_tensor(placed, mesh, placements, src_data_rank=None)
    return placed
