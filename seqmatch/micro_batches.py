"""How many rows go through the policy at once: by an estimate of the memory that a pass needs."""

from collections.abc import Sequence
from typing import TypeVar

from seqmatch.types import Trajectory

Row = TypeVar("Row")

BUDGET_BYTES = 3 * 2**30
"""For the activations of one pass; beside it stand the weights and the optimiser's state."""


def positions_per_pass(
    *, hidden_size: int, intermediate_size: int, num_layers: int, budget_bytes: int = BUDGET_BYTES
) -> int:
    """Returns how many input positions fit the budget with gradients, at least 1.

    A layer keeps about 8 hidden vectors and 4 of the feed-forward part for each position, in
    float32. The logits are never held (`seqmatch.soft_q`).
    """
    bytes_per_position = 4 * num_layers * (8 * hidden_size + 4 * intermediate_size)
    return max(budget_bytes // bytes_per_position, 1)


def num_passes(
    groups: Sequence[Sequence[Trajectory]], max_positions: int, num_processes: int = 1
) -> int:
    """Returns into how many passes a batch is cut so that each has at most `max_positions`.

    The groups (demonstrations, rollouts) go together: pass i has the i-th share of each. Every row
    is counted at the longest row's length, since a pass is padded to it. Each pass has a row of
    each group that is not empty, so there are at most as many passes as the smaller one has rows.
    Up to that, processes that share the passes get equally many.
    """
    rows = [trajectory for group in groups for trajectory in group]
    longest = max((len(row.prompt_ids) + len(row.pushes) for row in rows), default=0)
    fewest = min((len(group) for group in groups if group), default=1)
    needed = max(-(-len(rows) * longest // max_positions), 1)
    return min(-(-needed // num_processes) * num_processes, fewest)


def share(group: Sequence[Row], index: int, count: int) -> Sequence[Row]:
    """Returns the `index`-th of `count` nearly equal parts of a group, in order."""
    return group[len(group) * index // count : len(group) * (index + 1) // count]
