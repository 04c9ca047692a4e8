"""The gradient of the objective on one batch, in as many passes as memory needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from seqmatch.discriminators.player import SeenPass
from seqmatch.distributed import ALONE, World
from seqmatch.metrics import METRICS
from seqmatch.micro_batches import num_passes, share
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.dispatch import needs_backspace_q, objective_loss, value_temperature
from seqmatch.policy import Policy
from seqmatch.round_terms import BatchTerms, Complete, PassTerms
from seqmatch.single_pass import build_batch
from seqmatch.target_network import TargetNetwork
from seqmatch.types import SinglePassBatch, StateActionValues, Trajectory


@dataclass(frozen=True)
class BatchLoss:
    """The loss on a batch, whose gradients stand in the parameters."""

    loss: float
    terms: dict[str, float]
    """By METRICS name."""
    num_positions: int
    """Input positions that went through the policy, padding left out."""


@dataclass(frozen=True)
class _Pass:
    """One part of a batch that goes through the policy at once."""

    demonstrated: Sequence[Trajectory]
    sampled: Sequence[Trajectory]
    batch: SinglePassBatch
    weight: float
    """Its share of the demonstrations."""
    token_weight: float
    """Its share of the demonstrated tokens."""
    rollout_share: float
    """Its share of the rollouts."""


def accumulate_gradients(
    policy: Policy,
    objective: ObjectiveConfig,
    demonstrated: Sequence[Trajectory],
    replayed: Sequence[Trajectory],
    *,
    beta: float,
    max_positions: int,
    target: TargetNetwork | None = None,
    complete: Complete | None = None,
    world: World = ALONE,
) -> BatchLoss:
    """Adds the gradient of the objective to the parameters' and returns the loss.

    Losses are means over sequences, so the batch is cut into passes of equal shares of the
    demonstrations and of the rollouts, each weighted by its share; a term in nats per token is
    weighted by the pass's share of the demonstrated tokens. Means of |TD| over tokens are averaged
    over passes as losses are.

    Args:
        policy: The policy.
        objective: The config of the objective.
        demonstrated: The batch of demonstrations; at least one.
        replayed: Rollouts, or none where the objective needs none.
        beta: Weight of the imitation term, 0 to 1.
        max_positions: Input positions that go through the policy at once.
        target: Gives the values of next states; None takes the policy's own. Not asked where
            `beta` is 1.
        complete: Finds what the loss needs beside the values, for the whole batch at once: a batch
            of one pass is read by it between forward and backward, several are run without
            gradient before.
        world: The processes that share the passes. Gradient, loss and terms are then those of this
            process's passes, weighted as parts of the whole batch: `added_up` joins them.
    """
    count = num_passes([demonstrated, replayed], max_positions, world.size)
    one_of = partial(_pass, policy, demonstrated, replayed, count)
    own = range(world.rank, count, world.size)
    passes = [one_of(index) for index in own]
    asked: dict[str, Any] = {
        "value_temperature": value_temperature(objective),
        "with_backspace_q": needs_backspace_q(objective),
    }
    found: StateActionValues | None = None
    completed = [PassTerms()] * len(passes)
    terms: dict[str, float] = {}
    if complete is not None and count == world.size == 1:
        seen = [_seen(policy, passes[0], asked)]
        found = seen[0].values
        batch_terms = complete(seen)
        completed, terms = batch_terms.passes, dict(batch_terms.metrics)
    elif complete is not None:
        # What is found is found of the whole batch: one process does, and tells the others.
        look = partial(_completed, complete, policy, map(one_of, range(count)), asked)
        batch_terms = world.from_main(look)
        completed = [batch_terms.passes[index].to(policy.device) for index in own]
        terms = dict(batch_terms.metrics) if world.is_main else {}
    total = 0.0
    for one, further in zip(passes, completed, strict=True):
        # Before the policy's own pass: it exchanges the weights that backward will read.
        ahead = target.next_values(policy, one.batch) if target is not None and beta < 1.0 else None
        values = found or policy.state_action_values(one.batch, **asked)
        values = replace(values, next_values=ahead)
        output = objective_loss(objective, *_sides(values, one, further), beta)
        torch.autograd.backward(output.loss * one.weight)
        names = list(output.terms)
        numbers = torch.stack([output.loss.detach(), *(output.terms[name] for name in names)])
        loss, *rest = numbers.double().tolist()
        total += one.weight * loss
        for name, value in zip(names, rest, strict=True):
            is_per_token = METRICS[name].unit == "nats per token"
            weight = one.token_weight if is_per_token else one.weight
            terms[name] = terms.get(name, 0.0) + value * weight
    num_positions = sum(len(row.prompt_ids) + len(row.pushes) for row in (*demonstrated, *replayed))
    return BatchLoss(total, terms, num_positions)


def added_up(
    world: World, found: BatchLoss | None, parameters: Sequence[Parameter]
) -> BatchLoss | None:
    """Returns the loss of the whole batch, and adds up the gradients of all processes' passes.

    A parameter that no process has a gradient of keeps none; sharded ones are added up already.

    Args:
        world: The processes; every one of them must call this.
        found: What `accumulate_gradients` returned here; None where this process could not.
        parameters: Those that are trained, in the same order everywhere.

    Returns:
        The loss, or None where a process could not: the gradients are then of no use.
    """
    if world.size == 1:
        return found
    has_gradient = [parameter.grad is not None for parameter in parameters]
    parts = world.gather((found, has_gradient))
    losses = [part for part, _ in parts if part is not None]
    if found is None or len(losses) < world.size:
        return None
    for parameter, *has in zip(parameters, *(each for _, each in parts), strict=True):
        if parameter.grad is None and any(has):
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    world.add_up([each for each in gradients if not isinstance(each, DTensor)])
    terms: dict[str, float] = {}
    for part in losses:
        for name, value in part.terms.items():
            terms[name] = terms.get(name, 0.0) + value
    return replace(found, loss=sum(part.loss for part in losses), terms=terms)


def _pass(
    policy: Policy,
    demonstrated: Sequence[Trajectory],
    replayed: Sequence[Trajectory],
    count: int,
    index: int,
) -> _Pass:
    """The `index`-th of `count` passes of a batch."""
    rows, sampled = share(demonstrated, index, count), share(replayed, index, count)
    num_labels = sum(len(row.labels) for row in demonstrated)
    return _Pass(
        demonstrated=rows,
        sampled=sampled,
        batch=build_batch([*rows, *sampled], policy.space, device=policy.device),
        weight=len(rows) / len(demonstrated),
        token_weight=sum(len(row.labels) for row in rows) / num_labels,
        rollout_share=len(sampled) / max(len(replayed), 1),
    )


def _completed(
    complete: Complete, policy: Policy, passes: Iterable[_Pass], asked: dict[str, Any]
) -> BatchTerms:
    """What is found of a batch of several passes, before their gradients; in host memory."""
    with torch.no_grad():
        seen = [_seen(policy, one, asked) for one in passes]
    found = complete(seen)
    return replace(found, passes=[each.to(torch.device("cpu")) for each in found.passes])


def _seen(policy: Policy, one: _Pass, asked: dict[str, Any]) -> SeenPass:
    hidden = policy.slot_states(one.batch)
    values = policy.state_action_values(one.batch, hidden=hidden, **asked)
    return SeenPass(one.demonstrated, one.batch, hidden, values)


def _sides(
    values: StateActionValues, one: _Pass, further: PassTerms
) -> tuple[StateActionValues, StateActionValues | None]:
    """Demonstrations and rollouts of a pass, each with what its loss needs beside the values."""
    rows = len(one.demonstrated)
    data = replace(values.rows(slice(0, rows)), **further.data)
    if not one.sampled:
        return data, None
    rollouts = replace(values.rows(slice(rows, None)), **further.rollouts)
    if one.rollout_share != one.weight:
        # The loss is weighed by the share of the demonstrations; this makes it the rollouts' own.
        each = one.rollout_share / (one.weight * len(one.sampled))
        weights = rollouts.values.new_full((len(one.sampled),), each)
        rollouts = replace(rollouts, weights=weights)
    return data, rollouts
