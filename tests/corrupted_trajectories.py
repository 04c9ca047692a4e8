"""What holds of every corrupted demonstration, whichever noise drew its mistakes (D16)."""

from seqmatch.action_space import ActionSpace
from seqmatch.token_mdp import final_tokens, visited_states
from seqmatch.types import TokenizedDemonstration, Trajectory


def assert_labels_are_true(
    trajectory: Trajectory, demo: TokenizedDemonstration, space: ActionSpace
) -> None:
    """The clean answer remains, and each state's label is its true next action."""
    answer, floor = demo.completion_ids, len(demo.prompt_ids)
    assert trajectory.prompt_ids == demo.prompt_ids
    assert final_tokens(trajectory, space) == answer
    states = visited_states(trajectory, space)[:-1]
    for state, label, push in zip(states, trajectory.labels, trajectory.pushes, strict=True):
        standing = state[floor:]
        is_corrupted = standing != answer[: len(standing)]
        assert label == (space.backspace_id if is_corrupted else answer[len(standing)])
        if push not in (label, space.backspace_id):
            assert push not in space.unpushable
        if not is_corrupted:
            assert push != space.backspace_id


def burst_lengths(trajectory: Trajectory, space: ActionSpace) -> list[int]:
    """Wrong tokens of each burst, in order; each burst is undone before anything else happens."""
    lengths, standing = [], 0
    for label, push in zip(trajectory.labels, trajectory.pushes, strict=True):
        if push == space.backspace_id:
            standing -= 1
        elif push != label:
            if standing == 0:
                lengths.append(0)
            assert lengths
            standing += 1
            lengths[-1] += 1
        else:
            assert standing == 0
    return lengths
