"""The gradient of the objective on one batch, in passes of rows of about one length.

A loss is a mean over sequences, so a pass gives its part of the batch's loss exactly where each of
its rows has the weight that it has in the batch; the parts are added up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn import Parameter

from seqmatch.discriminators.player import SeenPass
from seqmatch.distributed import ALONE, World
from seqmatch.micro_batches import (
    POSITIONS_A_PASS_COSTS,
    Pass,
    length_passes,
    num_positions,
    packed_passes,
)
from seqmatch.objectives import ObjectiveConfig
from seqmatch.objectives.dispatch import (
    is_paired,
    needs_backspace_q,
    objective_loss,
    value_temperature,
)
from seqmatch.phase_times import HostClock, PhaseTimes
from seqmatch.policy import Policy
from seqmatch.round_terms import BatchTerms, Complete, PassTerms
from seqmatch.single_pass import build_batch
from seqmatch.target_network import TargetNetwork
from seqmatch.types import LossOutput, SinglePassBatch, StateActionValues, Trajectory

_OVER_DEMONSTRATED_ACTIONS = frozenset(
    {"train/nll", "train/td_data", "train/target_gap", "train/clipped_data"}
)
"""Terms that are means over all actions of one side; the others are means over its sequences."""
_OVER_SAMPLED_ACTIONS = frozenset(
    {"train/td_rollout", "train/clipped_rollout", "train/policy_entropy", "train/clipped_ratios"}
)


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

    places: Sequence[int]
    """Where its rows stand in the batch, demonstrations before rollouts."""
    demonstrated: Sequence[Trajectory]
    batch: SinglePassBatch
    demonstrated_weight: float
    """Of each demonstration in the batch's mean."""
    sampled_weight: float
    """Of each rollout."""
    demonstrated_share: float
    """Its share of the demonstrated actions."""
    sampled_share: float
    """Its share of the rollouts' actions."""

    def share_of(self, term: str) -> float:
        """Returns by what a term of this pass is weighed in the batch's."""
        if term in _OVER_DEMONSTRATED_ACTIONS:
            return self.demonstrated_share
        return self.sampled_share if term in _OVER_SAMPLED_ACTIONS else 1.0


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
    phases: PhaseTimes[Any] | None = None,
    cost_of_a_pass: int = POSITIONS_A_PASS_COSTS,
) -> BatchLoss:
    """Adds the gradient of the objective to the parameters' and returns the loss.

    Into which passes the batch is cut changes nothing but the rounding of sums.

    Args:
        policy: The policy.
        objective: The config of the objective.
        demonstrated: The batch of demonstrations; at least one.
        replayed: Rollouts, or none where the objective needs none.
        beta: Weight of the imitation term, 0 to 1.
        max_positions: Input positions that go through the policy at once.
        target: Gives the values of next states; None takes the policy's own. Not asked where
            `beta` is 1.
        complete: Finds what the loss needs beside the values, for the whole batch at once. Where
            the whole batch fits `max_positions` it reads the passes between their forward and
            their backward, else they are run without gradient before.
        world: The processes that share the passes. Gradient, loss and terms are then the parts of
            this process's passes: `added_up` joins them.
        phases: Counts the time to `data`, `forward` and `backward`.
        cost_of_a_pass: In input positions; the more a pass costs, the fewer there are. Not asked
            where rows are packed.
    """
    timed = PhaseTimes(HostClock()) if phases is None else phases
    with timed.during("data"):
        sizes = [[num_positions(row) for row in group] for group in (demonstrated, replayed)]
        paired = bool(replayed) and is_paired(objective)
        if policy.pass_mode.is_packed:
            cut = packed_passes(sizes, max_positions, num_processes=world.size, is_paired=paired)
        else:
            cut = length_passes(
                sizes,
                max_positions,
                num_processes=world.size,
                cost_of_a_pass=cost_of_a_pass,
                is_paired=paired,
            )
        one_of = partial(_pass, policy, demonstrated, replayed)
        own = range(world.rank, len(cut), world.size)
        passes = [one_of(cut[index]) for index in own]
    asked: dict[str, Any] = {
        "value_temperature": value_temperature(objective),
        "with_backspace_q": needs_backspace_q(objective),
    }
    held: list[StateActionValues] = []
    further = [PassTerms()] * len(passes)
    terms: dict[str, float] = {}
    if complete is not None and world.size == 1 and _fit_at_once(passes, max_positions):
        with timed.during("forward"):
            seen = [_seen(policy, one, asked) for one in passes]
        held = [one.values for one in seen]
        found = complete(seen)
        further, terms = found.passes, dict(found.metrics)
    elif complete is not None:
        # What is found is found of the whole batch: one process does, and tells the others.
        look = partial(_completed, complete, policy, map(one_of, cut), asked, timed)
        found = world.from_main(look)
        further = [found.passes[index].to(policy.device) for index in own]
        terms = dict(found.metrics) if world.is_main else {}
    outputs: list[LossOutput] = []
    for index, one in enumerate(passes):
        with timed.during("forward"):
            # Before the policy's own pass: it exchanges the weights that backward will read.
            is_asked = target is not None and beta < 1.0
            ahead = target.next_values(policy, one.batch) if target and is_asked else None
            values = held[index] if held else policy.state_action_values(one.batch, **asked)
            sides = _sides(replace(values, next_values=ahead), one, further[index])
            output = objective_loss(objective, *sides, beta)
        with timed.during("backward"):
            torch.autograd.backward(output.loss)
        outputs.append(LossOutput(output.loss.detach(), output.terms))
    rows = (*demonstrated, *replayed)
    return BatchLoss(
        *_joined(passes, outputs, terms), num_positions=sum(num_positions(row) for row in rows)
    )


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
    policy: Policy, demonstrated: Sequence[Trajectory], replayed: Sequence[Trajectory], rows: Pass
) -> _Pass:
    """These rows of a batch, laid out."""
    data, sampled = [demonstrated[at] for at in rows[0]], [replayed[at] for at in rows[1]]
    return _Pass(
        places=[*rows[0], *(len(demonstrated) + at for at in rows[1])],
        demonstrated=data,
        batch=build_batch([*data, *sampled], policy.space, device=policy.device),
        demonstrated_weight=1.0 / len(demonstrated),
        sampled_weight=1.0 / max(len(replayed), 1),
        demonstrated_share=_num_actions(data) / _num_actions(demonstrated),
        sampled_share=_num_actions(sampled) / max(_num_actions(replayed), 1),
    )


def _num_actions(rows: Iterable[Trajectory]) -> int:
    return sum(len(row.labels) for row in rows)


def _fit_at_once(passes: Sequence[_Pass], max_positions: int) -> bool:
    """Whether memory suffices for the graphs of all passes."""
    num_slots = sum(one.batch.input_ids.numel() for one in passes)
    return len(passes) == 1 or num_slots <= max_positions


def _completed(
    complete: Complete,
    policy: Policy,
    passes: Iterable[_Pass],
    asked: dict[str, Any],
    timed: PhaseTimes[Any],
) -> BatchTerms:
    """What is found of a batch of several passes, before their gradients; in host memory."""
    with timed.during("forward"), torch.no_grad():
        seen = [_seen(policy, one, asked) for one in passes]
    found = complete(seen)
    return replace(found, passes=[each.to(torch.device("cpu")) for each in found.passes])


def _seen(policy: Policy, one: _Pass, asked: dict[str, Any]) -> SeenPass:
    hidden = policy.slot_states(one.batch)
    values = policy.state_action_values(one.batch, hidden=hidden, **asked)
    return SeenPass(one.demonstrated, one.batch, hidden, values, one.places)


def _sides(
    values: StateActionValues, one: _Pass, further: PassTerms
) -> tuple[StateActionValues, StateActionValues | None]:
    """Demonstrations and rollouts of a pass, each with what its loss needs beside the values.

    A row weighs what it weighs in the batch: the losses of all passes add up to the batch's.
    """
    rows, num_rows = len(one.demonstrated), len(one.places)
    data, rollouts = values.rows(slice(0, rows)), values.rows(slice(rows, None))
    each = values.values.new_full((num_rows,), one.demonstrated_weight)
    each[rows:] = one.sampled_weight
    data = replace(data, weights=each[:rows], **further.data)
    if rows == num_rows:
        return data, None
    return data, replace(rollouts, weights=each[rows:], **further.rollouts)


def _joined(
    passes: Sequence[_Pass], outputs: Sequence[LossOutput], terms: dict[str, float]
) -> tuple[float, dict[str, float]]:
    """The sum of the passes' losses, and `terms` with theirs; the device is read once."""
    if not passes:
        return 0.0, terms
    names = list(outputs[0].terms)
    numbers = [torch.stack([each.loss, *(each.terms[name] for name in names)]) for each in outputs]
    total, joined = 0.0, dict(terms)
    for one, (loss, *rest) in zip(passes, torch.stack(numbers).double().tolist(), strict=True):
        total += loss
        for name, value in zip(names, rest, strict=True):
            joined[name] = joined.get(name, 0.0) + value * one.share_of(name)
    return total, joined
