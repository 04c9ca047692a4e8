"""One masked forward pass that gives the logits of all states of a trajectory.

After a backspace the state is a shorter prefix, so plain causal attention would show the policy
tokens that are no longer there. Two exact layouts of the same trajectory:

* `trie` (default): each distinct prefix is fed once and sees its ancestors and itself; a backspace
  adds no slot and states that are visited again share theirs.
* `refeed`: one slot a time step; a backspace feeds the uncovered token again, at its old position,
  seeing only what is alive. Closest to the description in the paper.

Both need an explicit mask and explicit positions, no dropout (the two slots of one state would
differ), and no attention that derives distance from the slot instead of the position.
Source: Cundy & Ermon (arXiv 2306.05426), masking; the constructions are in docs/method.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seqmatch.action_space import ActionSpace
from seqmatch.errors import DemonstrationError
from seqmatch.token_mdp import check_actions
from seqmatch.types import SinglePassBatch, Trajectory

Construction = Literal["trie", "refeed"]


@dataclass(frozen=True)
class _Layout:
    """One row before padding."""

    tokens: list[int]
    positions: list[int]
    parents: list[int]
    """The slot seen just before this one, -1 for the first: a slot sees its chain of parents."""
    state_slot: list[int]
    """N + 1 slots."""


def build_batch(
    trajectories: Sequence[Trajectory],
    space: ActionSpace,
    *,
    construction: Construction = "trie",
    device: torch.device | str = "cpu",
) -> SinglePassBatch:
    """Lays trajectories out for one masked forward pass.

    The logits at `state_slot[t]` equal those of a plain forward pass on the state s_t alone.
    Backspace exists (`can_delete`) in the states above the floor, the terminal one included, where
    every action leads back to it. The last state need not be terminal here; objectives expect it.

    Args:
        trajectories: At least one, each with at least one action.
        space: The action space.
        construction: Which of the two layouts; they differ in the number of slots only.
        device: Where the tensors are put.

    Returns:
        The batch, padded on the right.

    Raises:
        DemonstrationError: No trajectory, no action, a label or push that is not an action, or a
            backspace label where nothing can be deleted.

    Source: Cundy & Ermon (arXiv 2306.05426); docs/method.md, "One pass for all states".
    """
    if not trajectories:
        raise DemonstrationError("empty batch; at least one trajectory is needed")
    lay_out = _LAYOUTS[construction]
    layouts = []
    for row, trajectory in enumerate(trajectories):
        _check_actions(row, trajectory, space)
        layout = lay_out(trajectory, space)
        _check_labels(row, trajectory, layout, space)
        layouts.append(layout)
    num_slots = max(len(layout.tokens) for layout in layouts)
    num_times = max(len(trajectory.labels) for trajectory in trajectories)
    arrays = _arrays(trajectories, layouts, space, num_slots, num_times)
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    return SinglePassBatch(is_plain=all(map(_is_plain, layouts)), **tensors)


def is_seen(
    enters: Int[Tensor, "*row slot"], leaves: Int[Tensor, "*row slot"]
) -> Bool[Tensor, "*row slot slot"]:
    """Returns True where the row's slot sees the column's slot: an ancestor in its tree, or itself.

    Arguments are as of `SinglePassBatch`; no softmax is over nothing, since all see themselves.
    """
    asking, asked = enters.unsqueeze(-1), enters.unsqueeze(-2)
    return (asked <= asking) & (asking < leaves.unsqueeze(-2))


def additive_mask(
    enters: Int[Tensor, "*row slot"], leaves: Int[Tensor, "*row slot"], dtype: torch.dtype
) -> Float[Tensor, "*row 1 slot slot"]:
    """Returns what is added to scores of attention: 0 where seen, the least finite elsewhere."""
    seen = is_seen(enters, leaves)
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(seen.logical_not_(), torch.finfo(dtype).min).unsqueeze(-3)


def _lay_out_trie(trajectory: Trajectory, space: ActionSpace) -> _Layout:
    prompt = trajectory.prompt_ids
    floor = len(prompt) - 1
    tokens, positions = list(prompt), list(range(len(prompt)))
    parents = list(range(-1, floor))
    children: dict[tuple[int, int], int] = {}
    node, state_slot = floor, [floor]
    backspace_id, stop_id = space.backspace_id, space.eos_id
    for action in trajectory.pushes:
        # A stop token that was pushed is the end, the prompt's own is not.
        if node == floor or tokens[node] != stop_id:
            if action != backspace_id:
                child = children.get((node, action))
                if child is None:
                    child = children[node, action] = len(tokens)
                    tokens.append(action)
                    positions.append(positions[node] + 1)
                    parents.append(node)
                node = child
            elif node != floor:
                node = parents[node]
        state_slot.append(node)
    return _Layout(tokens, positions, parents, state_slot)


def _lay_out_refeed(trajectory: Trajectory, space: ActionSpace) -> _Layout:
    prompt = trajectory.prompt_ids
    floor = len(prompt)
    tokens, positions = list(prompt), list(range(floor))
    parents = list(range(-1, floor - 1))
    alive = list(range(floor))
    state_slot = [floor - 1]
    for action in trajectory.pushes:
        is_over = len(alive) > floor and tokens[alive[-1]] == space.eos_id
        if action == space.backspace_id or is_over:
            if len(alive) > floor and not is_over:
                alive.pop()
            uncovered = alive.pop()
            tokens.append(tokens[uncovered])
            positions.append(positions[uncovered])
        else:
            tokens.append(action)
            positions.append(positions[alive[-1]] + 1)
        parents.append(alive[-1] if alive else -1)
        alive.append(len(tokens) - 1)
        state_slot.append(alive[-1])
    return _Layout(tokens, positions, parents, state_slot)


_LAYOUTS: dict[Construction, Callable[[Trajectory, ActionSpace], _Layout]] = {
    "trie": _lay_out_trie,
    "refeed": _lay_out_refeed,
}


def _check_actions(row: int, trajectory: Trajectory, space: ActionSpace) -> None:
    num_labels, num_pushes = len(trajectory.labels), len(trajectory.pushes)
    if not num_labels or num_labels != num_pushes:
        raise DemonstrationError(
            f"trajectory {row} has {num_labels} labels and {num_pushes} pushes; "
            "allowed: equally many, at least one"
        )
    check_actions(trajectory.labels, trajectory.prompt_ids, space)
    check_actions(trajectory.pushes, trajectory.prompt_ids, space)


def _check_labels(row: int, trajectory: Trajectory, layout: _Layout, space: ActionSpace) -> None:
    if space.backspace_id not in trajectory.labels:
        return
    for time, label in enumerate(trajectory.labels):
        position = layout.positions[layout.state_slot[time]]
        if label == space.backspace_id and position < len(trajectory.prompt_ids):
            raise DemonstrationError(
                f"trajectory {row}: the label at time {time} is backspace, but only the prompt is "
                "left, which cannot be deleted"
            )


def _arrays(
    trajectories: Sequence[Trajectory],
    layouts: Sequence[_Layout],
    space: ActionSpace,
    num_slots: int,
    num_times: int,
) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.bool_]]:
    num_rows = len(layouts)
    input_ids = np.full((num_rows, num_slots), space.pad_id, dtype=np.int64)
    position_ids = np.zeros((num_rows, num_slots), dtype=np.int64)
    is_slot = np.zeros((num_rows, num_slots), dtype=np.bool_)
    state_slot = np.zeros((num_rows, num_times + 1), dtype=np.int64)
    can_delete = np.zeros((num_rows, num_times + 1), dtype=np.bool_)
    labels = np.zeros((num_rows, num_times), dtype=np.int64)
    is_action = np.zeros((num_rows, num_times), dtype=np.bool_)
    enters = np.tile(np.arange(num_slots), (num_rows, 1))
    leaves = enters + 1
    for row, (trajectory, layout) in enumerate(zip(trajectories, layouts, strict=True)):
        slots, times = len(layout.tokens), len(trajectory.labels)
        input_ids[row, :slots] = layout.tokens
        position_ids[row, :slots] = layout.positions
        is_slot[row, :slots] = True
        enters[row, :slots], leaves[row, :slots] = _walk(layout)
        state_slot[row, : times + 1] = layout.state_slot
        depths = np.asarray(layout.positions)[layout.state_slot]
        can_delete[row, : times + 1] = space.has_backspace & (depths >= len(trajectory.prompt_ids))
        labels[row, :times] = trajectory.labels
        is_action[row, :times] = True
    return {
        "input_ids": input_ids,
        "position_ids": position_ids,
        "is_slot": is_slot,
        "enters": enters,
        "leaves": leaves,
        "state_slot": state_slot,
        "can_delete": can_delete,
        "labels": labels,
        "is_action": is_action,
        "num_actions": is_action.sum(axis=1),
    }


def _is_plain(layout: _Layout) -> bool:
    """Whether it is a sequence: each slot follows the one before it."""
    return layout.parents == list(range(-1, len(layout.parents) - 1))


def _walk(layout: _Layout) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    """When a depth-first walk comes to each slot, and when it has seen all slots under it."""
    num_slots = len(layout.parents)
    if _is_plain(layout):
        return np.arange(num_slots), num_slots
    # A slot stands after its parent, so sizes add up backwards and places are given forwards.
    sizes = [1] * num_slots
    for slot in range(num_slots - 1, -1, -1):
        if (parent := layout.parents[slot]) >= 0:
            sizes[parent] += sizes[slot]
    enters, leaves = [0] * num_slots, [0] * num_slots
    following = [0] * (num_slots + 1)  # the last one is of what has no parent
    for slot, parent in enumerate(layout.parents):
        enters[slot] = following[parent]
        following[parent] = leaves[slot] = enters[slot] + sizes[slot]
        following[slot] = enters[slot] + 1
    return enters, leaves
