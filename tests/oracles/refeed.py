"""The re-feed layout of one trajectory, transcribed from the pseudo-code of the method's notes."""

from collections.abc import Sequence


def refeed_layout(
    prompt: Sequence[int], ops: Sequence[int], backspace: int
) -> tuple[list[int], list[int], list[set[int]]]:
    """Returns input ids, positions and, for each slot, the set of slots that it attends to."""
    ids, pos, stack = list(prompt), list(range(len(prompt))), list(range(len(prompt)))
    mask = [set(range(slot + 1)) for slot in range(len(prompt))]
    floor = len(prompt)
    for op in ops:
        slot = len(ids)
        if op == backspace:
            if len(stack) > floor:
                stack.pop()
            top = stack.pop()
            ids.append(ids[top])
            pos.append(pos[top])
        else:
            ids.append(op)
            pos.append(pos[stack[-1]] + 1)
        stack.append(slot)
        mask.append(set(stack))
    return ids, pos, mask


def reduced_prefix(prompt: Sequence[int], ops: Sequence[int], backspace: int) -> list[int]:
    """The tokens that are alive after the operations: what a plain forward pass would be fed."""
    alive = list(prompt)
    for op in ops:
        if op != backspace:
            alive.append(op)
        elif len(alive) > len(prompt):
            alive.pop()
    return alive
