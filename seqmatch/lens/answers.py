"""What the lens compares: whole answers as they stand in the end, whatever way led there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seqmatch.action_space import ActionSpace
from seqmatch.decoding.generation import Rollout, standing_tokens
from seqmatch.text import answer_text
from seqmatch.types import TokenizedDemonstration


@dataclass(frozen=True)
class Answer:
    """One whole answer."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """The tokens that stand, no backspace among them; the last one is the stop token where the
    answer was finished. Not empty."""
    is_finished: bool
    """False where a limit ended it."""
    text: str
    """Without special tokens."""


def answer_of_rollout(rollout: Rollout, space: ActionSpace, tokenizer: Any) -> Answer:
    """Returns what stands of an episode after its backspaces."""
    standing = standing_tokens(rollout.actions, space.backspace_id)
    return Answer(
        rollout.prompt_ids, standing, rollout.is_finished, answer_text(tokenizer, standing)
    )


def answer_of_demonstration(
    row: TokenizedDemonstration, space: ActionSpace, tokenizer: Any, max_tokens: int
) -> Answer:
    """Returns a demonstration cut where a rollout would have been.

    Without the cut the limit alone would tell the two apart. Both laws are then those of answers
    cut at the limit: a divergence between them is at most that between the uncut ones.

    Args:
        row: The demonstration.
        space: Says which token is the stop token.
        tokenizer: Of the policy, for the text.
        max_tokens: The limit of the rollouts, stop token included.
    """
    standing = row.completion_ids[:max_tokens]
    return Answer(
        row.prompt_ids, standing, standing[-1:] == (space.eos_id,), answer_text(tokenizer, standing)
    )


def groups_of(answers: Sequence[Answer]) -> list[int]:
    """Returns a number for each answer, equal for answers to one prompt: what goes together."""
    number_of: dict[tuple[int, ...], int] = {}
    return [number_of.setdefault(answer.prompt_ids, len(number_of)) for answer in answers]
