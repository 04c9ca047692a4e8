"""Which rows go through the policy at once: passes that memory suffices for.

Passes of rows of about one length, or of any lengths where rows are packed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from seqmatch.types import Trajectory

Row = TypeVar("Row")
Pass = list[list[int]]
"""The rows of one pass: for each group their indices, ascending."""

BUDGET_BYTES = 3 * 2**30
"""For the activations of one pass; beside it stand the weights and the optimiser's state."""
POSITIONS_A_PASS_COSTS = 128
"""So many input positions take as long as a pass takes by itself. Forward and backward on one core
of a 2.5 GHz server: 146 for `byte-llama-small`, 49 for SmolLM2-135M, 25 with LoRA."""
MAX_CUTS = 32
"""Lengths that are tried as borders between passes."""


def positions_per_pass(
    *,
    hidden_size: int,
    intermediate_size: int,
    num_layers: int,
    is_checkpointed: bool = False,
    budget_bytes: int = BUDGET_BYTES,
) -> int:
    """Returns how many input positions fit the budget with gradients, at least 1.

    A layer keeps about 8 hidden vectors and 4 of the feed-forward part for each position, in
    float32; in bfloat16 about 0.7 of that, which is not counted on. Where layers run again in the
    backward pass each keeps its input alone, and one of them at a time all of it. Peaks of 12
    layers of width 256 grow by 256 kB a position where this says 225, and by 30.8 where it says
    30.8. The logits are
    never held (`seqmatch.soft_q`).
    """
    of_layer = 8 * hidden_size + 4 * intermediate_size
    kept = num_layers * hidden_size + of_layer if is_checkpointed else num_layers * of_layer
    return max(budget_bytes // (4 * kept), 1)


def num_passes(groups: Sequence[Sequence[Trajectory]], max_positions: int) -> int:
    """Returns into how many passes rows are cut, in order, each of at most `max_positions`.

    The groups go together: pass i has the i-th share of each. Every row is counted at the longest
    row's length, since a pass is padded to it. Each pass has a row of each group that is not empty,
    so there are at most as many passes as the smaller one has rows.
    """
    rows = [trajectory for group in groups for trajectory in group]
    longest = max((num_positions(row) for row in rows), default=0)
    fewest = min((len(group) for group in groups if group), default=1)
    needed = max(-(-len(rows) * longest // max_positions), 1)
    return min(needed, fewest)


def share(group: Sequence[Row], index: int, count: int) -> Sequence[Row]:
    """Returns the `index`-th of `count` nearly equal parts of a group, in order."""
    return group[len(group) * index // count : len(group) * (index + 1) // count]


def num_positions(row: Trajectory) -> int:
    """Returns how many input positions a row has at most."""
    return len(row.prompt_ids) + len(row.pushes)


def length_passes(
    groups: Sequence[Sequence[int]],
    max_positions: int,
    *,
    num_processes: int = 1,
    cost_of_a_pass: int = POSITIONS_A_PASS_COSTS,
    is_paired: bool = False,
) -> list[Pass]:
    """Cuts a batch into passes of rows of about one length, so that little is padding.

    A pass of n rows is padded to its longest row, T, and costs n T positions and a constant. Of all
    cuts of the rows in order of length, at up to `MAX_CUTS` lengths, the one that costs least is
    taken; what is then above `max_positions` is cut evenly. Each pass has a row of each group that
    is not empty. A function of the lengths alone.

    Processes take the passes in turn. As long as there are rows for it, they get equally many, and
    those of a turn are of about one length, so that none waits.

    Args:
        groups: The lengths of the rows of each group (demonstrations, rollouts), in positions.
        max_positions: Positions that go through the policy at once.
        num_processes: Processes that share the passes.
        cost_of_a_pass: The constant, in positions.
        is_paired: Whether the i-th rows of all groups must be in one pass; the groups then have
            equally many rows.

    Returns:
        The passes, the longest rows first; one pass has its rows in their order.
    """
    if is_paired:
        pairs = [max(lengths) for lengths in zip(*groups, strict=True)]
        cut = length_passes(
            [pairs],
            max(max_positions // len(groups), 1),
            num_processes=num_processes,
            cost_of_a_pass=cost_of_a_pass // len(groups),
        )
        return [rows * len(groups) for rows in cut]
    lengths = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
    group_of = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    at_home = np.concatenate([np.arange(len(group)) for group in groups])
    order = np.argsort(-lengths, kind="stable")
    filled = [number for number, group in enumerate(groups) if group]
    borders = _borders(
        lengths[order],
        np.stack([group_of[order] == number for number in filled]),
        num_processes,
        (max_positions, cost_of_a_pass),
    )
    passes: list[Pass] = []
    for start, end in pairwise(borders):
        rows = order[start:end]
        of_groups = [at_home[rows[group_of[rows] == number]] for number in range(len(groups))]
        size = int(lengths[order[start]]) * (end - start)
        fewest = min(len(of_groups[number]) for number in filled)
        count = _num_equal(-(-size // max_positions), fewest, num_processes)
        passes += [
            [sorted(share(group.tolist(), index, count)) for group in of_groups]
            for index in range(count)
        ]
    return passes


def packed_passes(
    groups: Sequence[Sequence[int]],
    max_positions: int,
    *,
    num_processes: int = 1,
    is_paired: bool = False,
) -> list[Pass]:
    """Cuts a batch into as few passes as memory needs, of about equally many positions.

    For rows that are packed: a pass costs the sum of its rows, not the longest one's length for
    each. Rows are dealt out in order of length. Arguments and the properties of passes are those of
    `length_passes`; a pass exceeds `max_positions` only where the smallest group has no row left
    for a further pass.
    """
    sizes = [np.asarray(group, dtype=np.int64) for group in groups]
    if is_paired:
        sizes = [np.sum(sizes, axis=0)]
    total = sum(int(group.sum()) for group in sizes)
    fewest = min(len(group) for group in sizes if len(group))
    count = _num_equal(-(-total // max_positions), fewest, num_processes)
    while True:
        dealt = [_dealt(group, count) for group in sizes]
        largest = max(
            sum(int(group[rows[index]].sum()) for group, rows in zip(sizes, dealt, strict=True))
            for index in range(count)
        )
        more = _num_equal(count + 1, fewest, num_processes)
        if largest <= max_positions or more <= count:
            break
        count = more
    passes = [[sorted(rows[index].tolist()) for rows in dealt] for index in range(count)]
    return [rows * len(groups) for rows in passes] if is_paired else passes


def _dealt(lengths: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """Deals rows out to so many passes, the longest first, back and forth."""
    order = np.argsort(-lengths, kind="stable")
    turn = np.arange(len(order)) % (2 * count)
    receiver = np.minimum(turn, 2 * count - 1 - turn)
    return [order[receiver == index] for index in range(count)]


def _num_equal(needed: int, fewest: int, num_processes: int) -> int:
    """How many passes: at least those needed, the same number for each process, none without rows.

    With fewer rows than processes some have nothing to do.
    """
    if fewest < num_processes:
        return max(fewest, 1)
    rounds = max(-(-needed // num_processes), 1)
    return min(rounds, fewest // num_processes) * num_processes


def _borders(
    lengths: npt.NDArray[np.int64],
    is_of: npt.NDArray[np.bool_],
    num_processes: int,
    limit_and_cost: tuple[int, int],
) -> list[int]:
    """Where the rows, the longest first, are cut at the least cost: from 0 to their number.

    Between two borders stands a row of each group (a row of `is_of`) for each process.
    """
    max_positions, cost_of_a_pass = limit_and_cost
    num_rows = len(lengths)
    if num_rows * int(lengths[0]) - int(lengths.sum()) <= cost_of_a_pass * num_processes:
        return [0, num_rows]  # no cut could save what a pass costs
    changes = np.flatnonzero(np.diff(lengths)) + 1
    if len(changes) > MAX_CUTS:
        changes = changes[np.linspace(0, len(changes) - 1, MAX_CUTS).astype(np.int64)]
    places = np.concatenate([[0], changes, [num_rows]])
    before = np.pad(np.cumsum(is_of, axis=1), ((0, 0), (1, 0)))[:, places]
    # best[j] is the least cost of the rows before the j-th place.
    best = np.full(len(places), np.inf)
    best[0], came_from = 0.0, np.zeros(len(places), dtype=np.int64)
    for end in range(1, len(places)):
        sizes = (places[end] - places[:end]) * lengths[places[:end]]
        turns = -(-sizes // (max_positions * num_processes))
        costs = best[:end] + sizes + turns * num_processes * cost_of_a_pass
        fewest: npt.NDArray[np.int64] = (before[:, end, None] - before[:, :end]).min(axis=0)
        costs[fewest < num_processes] = np.inf
        came_from[end] = int(costs.argmin())
        best[end] = costs[came_from[end]]
    found, at = [num_rows], len(places) - 1
    while at:
        at = int(came_from[at])
        found.append(int(places[at]))
    return found[::-1]
