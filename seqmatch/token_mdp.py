"""The Markov decision process of text with a backspace: states are token sequences.

s_0 is the prompt, and its length is the *floor*: nothing of it can be deleted. Inserting appends a
token; backspace removes the last one, and at the floor leaves the state as it is. A state above the
floor that ends with the stop token is terminal: every action leads back to it.
Source: Cundy & Ermon (arXiv 2306.05426), section on the MDP; the floor is ours (they delete down to
the beginning-of-sequence token).
"""

from collections.abc import Sequence

from seqmatch.action_space import ActionSpace
from seqmatch.errors import DemonstrationError
from seqmatch.types import Trajectory

State = tuple[int, ...]


def is_terminal(state: State, floor: int, space: ActionSpace) -> bool:
    """Tells whether the state ends with a stop token that was pushed after the prompt."""
    return len(state) > floor and state[-1] == space.eos_id


def step(state: State, action: int, floor: int, space: ActionSpace) -> State:
    """Returns the state that follows when `action` happens in `state`."""
    if is_terminal(state, floor, space):
        return state
    if action != space.backspace_id:
        return (*state, action)
    return state[:-1] if len(state) > floor else state


def replay(actions: Sequence[int], prompt: State, space: ActionSpace) -> list[State]:
    """Returns the states s_0 .. s_N that these N actions visit from the prompt.

    Args:
        actions: Token ids, or `space.backspace_id`.
        prompt: The undeletable start; its length is the floor.
        space: The action space.

    Returns:
        N + 1 states, prompt included in each.

    Raises:
        DemonstrationError: The prompt is empty or an action is not one of the space.
    """
    check_actions(actions, prompt, space)
    states = [tuple(prompt)]
    for action in actions:
        states.append(step(states[-1], action, len(prompt), space))
    return states


def visited_states(trajectory: Trajectory, space: ActionSpace) -> list[State]:
    """Returns the states s_0 .. s_N of a trajectory: what really happened, so the pushes."""
    return replay(trajectory.pushes, trajectory.prompt_ids, space)


def final_tokens(trajectory: Trajectory, space: ActionSpace) -> tuple[int, ...]:
    """Returns the tokens that stand after the prompt at the end, the stop token included."""
    check_actions(trajectory.pushes, trajectory.prompt_ids, space)
    standing: list[int] = []
    for action in trajectory.pushes:
        if standing and standing[-1] == space.eos_id:
            break
        if action != space.backspace_id:
            standing.append(action)
        elif standing:
            standing.pop()
    return tuple(standing)


def check_actions(actions: Sequence[int], prompt: Sequence[int], space: ActionSpace) -> None:
    """Raises DemonstrationError where a prompt is empty or an action does not exist."""
    if not prompt:
        raise DemonstrationError("empty prompt; a trajectory starts from at least one token")
    limit = space.num_actions
    if not actions or (min(actions) >= 0 and max(actions) < limit):
        return
    for time, action in enumerate(actions):
        if not 0 <= action < limit:
            raise DemonstrationError(
                f"action {action} at time {time} does not exist; allowed: 0 to {limit - 1}"
                + ("" if space.has_backspace else " (this policy has no backspace)")
            )
