"""The gradient of the objective on one batch, in as many passes as memory needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from seqmatch.discriminators.player import SeenPass
from seqmatch.metrics import METRICS
from seqmatch.micro_batches import num_passes, share
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.dispatch import needs_backspace_q, objective_loss, value_temperature
from seqmatch.policy import Policy
from seqmatch.round_terms import Complete, PassTerms
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
    """
    passes = list(_passes(policy, demonstrated, replayed, max_positions))
    asked: dict[str, Any] = {
        "value_temperature": value_temperature(objective),
        "with_backspace_q": needs_backspace_q(objective),
    }
    found: StateActionValues | None = None
    completed = [PassTerms()] * len(passes)
    terms: dict[str, float] = {}
    if complete is not None:
        with torch.set_grad_enabled(len(passes) == 1):
            seen = [_seen(policy, one, asked) for one in passes]
        found = seen[0].values if len(passes) == 1 else None
        batch_terms = complete(seen)
        completed, terms = batch_terms.passes, dict(batch_terms.metrics)
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


def _passes(
    policy: Policy,
    demonstrated: Sequence[Trajectory],
    replayed: Sequence[Trajectory],
    max_positions: int,
) -> Iterator[_Pass]:
    count = num_passes([demonstrated, replayed], max_positions)
    num_labels = sum(len(row.labels) for row in demonstrated)
    for index in range(count):
        rows, sampled = share(demonstrated, index, count), share(replayed, index, count)
        yield _Pass(
            demonstrated=rows,
            sampled=sampled,
            batch=build_batch([*rows, *sampled], policy.space, device=policy.device),
            weight=len(rows) / len(demonstrated),
            token_weight=sum(len(row.labels) for row in rows) / num_labels,
            rollout_share=len(sampled) / max(len(replayed), 1),
        )


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
