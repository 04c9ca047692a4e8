"""The gradient of the objective on one batch, in as many passes as memory needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from seqmatch.metrics import METRICS
from seqmatch.micro_batches import num_passes, share
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.dispatch import needs_backspace_q, objective_loss, value_temperature
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.target_network import TargetNetwork
from seqmatch.types import Trajectory


@dataclass(frozen=True)
class BatchLoss:
    """The loss on a batch, whose gradients stand in the parameters."""

    loss: float
    terms: dict[str, float]
    """By METRICS name."""
    num_positions: int
    """Input positions that went through the policy, padding left out."""


def accumulate_gradients(
    policy: Policy,
    objective: ObjectiveConfig,
    demonstrated: Sequence[Trajectory],
    replayed: Sequence[Trajectory],
    *,
    beta: float,
    max_positions: int,
    target: TargetNetwork | None = None,
) -> BatchLoss:
    """Adds the gradient of the objective to the parameters' and returns the loss.

    Losses are means over sequences, so the batch is cut into passes of equal shares of the
    demonstrations and of the rollouts, each weighted by its share of the demonstrations; a term in
    nats per token is weighted by the pass's share of the demonstrated tokens. Means of |TD| over
    tokens are averaged over passes as losses are.

    Args:
        policy: The policy.
        objective: The config of the objective.
        demonstrated: The batch of demonstrations; at least one.
        replayed: As many rollouts, or none where the objective needs none.
        beta: Weight of the imitation term, 0 to 1.
        max_positions: Input positions that go through the policy at once.
        target: Gives the values of next states; None takes the policy's own. Not asked where
            `beta` is 1.
    """
    count = num_passes([demonstrated, replayed], max_positions)
    total, terms, num_positions = 0.0, dict[str, float](), 0
    num_labels = sum(len(row.labels) for row in demonstrated)
    for index in range(count):
        rows, sampled = share(demonstrated, index, count), share(replayed, index, count)
        weight = len(rows) / len(demonstrated)
        token_weight = sum(len(row.labels) for row in rows) / num_labels
        batch = build_batch([*rows, *sampled], policy.space, device=policy.device)
        # Before the policy's own pass: it exchanges the weights that backward will read.
        ahead = target.next_values(policy, batch) if target is not None and beta < 1.0 else None
        found = policy.state_action_values(
            batch,
            value_temperature=value_temperature(objective),
            with_backspace_q=needs_backspace_q(objective),
        )
        found = replace(found, next_values=ahead)
        data = found.rows(slice(0, len(rows)))
        rollouts = found.rows(slice(len(rows), None)) if sampled else None
        output = objective_loss(objective, data, rollouts, beta)
        torch.autograd.backward(output.loss * weight)
        names = list(output.terms)
        numbers = torch.stack([output.loss.detach(), *(output.terms[name] for name in names)])
        loss, *values = numbers.double().tolist()
        total += weight * loss
        for name, value in zip(names, values, strict=True):
            is_per_token = METRICS[name].unit == "nats per token"
            terms[name] = terms.get(name, 0.0) + value * (token_weight if is_per_token else weight)
        num_positions += sum(len(row.prompt_ids) + len(row.pushes) for row in (*rows, *sampled))
    return BatchLoss(total, terms, num_positions)
