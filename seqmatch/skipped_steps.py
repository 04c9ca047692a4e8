"""How many steps of a run may change nothing, because a number was not finite, before it ends."""

from collections.abc import Sequence

from seqmatch.errors import DivergedError

MAX_SKIPPED_IN_A_ROW = 3
MAX_SKIPPED_OF_THE_LAST_1000 = 10


def check_skipped(skipped_steps: Sequence[int], step: int) -> None:
    """Refuses to go on after a step that was skipped, where there were too many.

    Args:
        skipped_steps: All steps that were skipped, in order; `step` is the last.
        step: The step.

    Raises:
        DivergedError: So many in a row, or of the last 1,000, changed nothing.
    """
    in_a_row = range(step - MAX_SKIPPED_IN_A_ROW + 1, step + 1)
    recent = [each for each in skipped_steps if each > step - 1000]
    if (
        list(skipped_steps[-MAX_SKIPPED_IN_A_ROW:]) == list(in_a_row)
        or len(recent) > MAX_SKIPPED_OF_THE_LAST_1000
    ):
        raise DivergedError(
            f"the loss or its gradient was not finite at steps {recent[-10:]}; at most "
            f"{MAX_SKIPPED_IN_A_ROW - 1} in a row and {MAX_SKIPPED_OF_THE_LAST_1000} of 1,000 "
            "are allowed. Try a smaller learning rate"
        )
