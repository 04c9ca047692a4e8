"""Demonstrations with mistakes and the backspaces that undo them, and trajectories cut at a limit.

Labels and pushes are two arrays. Where noise strikes, another token than the demonstrated one is
*pushed*, but the *label* stays the demonstrated one: the demonstrator chose it and the dynamics
failed. In the corrupted state the label is backspace. A wrong token is never a label, so training
never teaches to make the mistake. Source: Cundy & Ermon (arXiv 2306.05426), noise augmentation.

Where a limit cuts a trajectory, the same is done with the stop token: it is pushed by force, and
the label stays the true next action.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from seqmatch.action_space import ActionSpace
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.types import TokenizedDemonstration, Trajectory


def clean_trajectory(demo: TokenizedDemonstration, space: ActionSpace) -> Trajectory:
    """Returns the demonstration as a trajectory without noise.

    The last push is always the stop token. An answer that ends with it is followed exactly; an
    answer that was cut (its last token is another one) gives a last label that is the true next
    token while the stop token is forced.

    Raises:
        DemonstrationError: The prompt or the answer has no token.
    """
    _check(demo)
    return Trajectory(
        prompt_ids=demo.prompt_ids,
        labels=demo.completion_ids,
        pushes=(*demo.completion_ids[:-1], space.eos_id),
    )


def corrupt(
    demo: TokenizedDemonstration,
    space: ActionSpace,
    config: CorruptionConfig,
    noise_ids: Sequence[int] | None,
    rng: np.random.Generator,
) -> Trajectory:
    """Returns the demonstration with random mistakes, each undone by a backspace.

    Before each answer token x_i, the stop token included, with probability `config.rate` and at
    most once: push x' (label x_i), then backspace (label backspace); then push x_i (label x_i).
    x' is uniform over the noise tokens except x_i, the stop, start and padding tokens and all
    other unpushable ones. Where that leaves nothing (the only noise token is x_i itself), the
    position stays clean.

    Args:
        demo: Prompt and answer; the prompt is never corrupted.
        space: An action space with backspace.
        config: The rate; the alphabet has been turned into `noise_ids` by the caller.
        noise_ids: Tokens to draw from; None is the whole vocabulary.
        rng: Numpy generator; equal state gives an equal trajectory.

    Returns:
        Labels and pushes; N = answer tokens + 2 * mistakes.

    Raises:
        ConfigError: The space has no backspace, or no noise token may be pushed.
        DemonstrationError: The prompt or the answer has no token.

    Source: Cundy & Ermon, noise augmentation; the exclusions are ours: with x' = x_i the backspace
    label would punish the right token, and x' = stop would end the episode.
    """
    if not space.has_backspace:
        raise ConfigError("corruption needs the backspace action; this policy has none")
    _check(demo)
    pushable = _pushable(space, None if noise_ids is None else tuple(noise_ids))
    strikes = rng.random(len(demo.completion_ids)) < config.rate
    labels: list[int] = []
    pushes: list[int] = []
    for token, strike in zip(demo.completion_ids, strikes, strict=True):
        wrong = _wrong_token(pushable, token, rng) if strike else None
        if wrong is not None:
            labels += [token, space.backspace_id]
            pushes += [wrong, space.backspace_id]
        labels.append(token)
        pushes.append(token)
    pushes[-1] = space.eos_id
    return Trajectory(demo.prompt_ids, tuple(labels), tuple(pushes))


def cut_demonstration(demo: TokenizedDemonstration, max_tokens: int) -> TokenizedDemonstration:
    """Returns the demonstration with prompt and answer cut to `max_tokens` positions together.

    A cut answer no longer ends with the stop token: its last token is the true next token at the
    limit, which becomes a label without being pushed (see `clean_trajectory`).

    Raises:
        DemonstrationError: The prompt leaves no room for an answer token.
    """
    room = max_tokens - len(demo.prompt_ids)
    if room < 1:
        raise DemonstrationError(
            f"demonstration {demo.index}: a prompt of {len(demo.prompt_ids)} tokens leaves no room "
            f"for an answer within {max_tokens} tokens; shorten it or raise the limit"
        )
    return replace(demo, completion_ids=demo.completion_ids[:room])


def cut_to(demo: TokenizedDemonstration, max_tokens: int, space: ActionSpace) -> Trajectory:
    """Returns the clean trajectory of the demonstration cut to `max_tokens` positions."""
    return clean_trajectory(cut_demonstration(demo, max_tokens), space)


def truncate(trajectory: Trajectory, max_actions: int, space: ActionSpace) -> Trajectory:
    """Ends a trajectory after at most `max_actions` actions by forcing the stop token.

    The last label stays what the policy or the demonstrator chose; only the push becomes the stop
    token, so that the next state is terminal. A trajectory that ends with the stop token within
    the limit is returned as it is; an unfinished one gets the forced stop at its last action.

    Args:
        trajectory: At least one action.
        max_actions: Insertions and deletions together, at least 1.
        space: The action space.

    Raises:
        DemonstrationError: The trajectory has no action.
        ConfigError: `max_actions` is below 1.
    """
    if max_actions < 1:
        raise ConfigError(f"max_actions is {max_actions}; allowed: at least 1")
    if not trajectory.labels:
        raise DemonstrationError("trajectory without actions; at least one is needed")
    labels, pushes = trajectory.labels[:max_actions], trajectory.pushes[:max_actions]
    return replace(trajectory, labels=labels, pushes=(*pushes[:-1], space.eos_id))


def _check(demo: TokenizedDemonstration) -> None:
    for name, ids in (("prompt", demo.prompt_ids), ("answer", demo.completion_ids)):
        if not ids:
            raise DemonstrationError(
                f"demonstration {demo.index}: the {name} has no token; at least one is needed"
            )


@lru_cache(maxsize=16)
def _pushable(space: ActionSpace, noise_ids: tuple[int, ...] | None) -> npt.NDArray[np.int64]:
    """The sorted noise tokens; cached because it spans the vocabulary and each row needs it."""
    wanted = np.arange(space.vocab_size) if noise_ids is None else np.unique(noise_ids)
    if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < space.vocab_size:
        raise ConfigError(
            f"noise tokens {int(wanted[0])} to {int(wanted[-1])} are not all in the vocabulary; "
            f"allowed: 0 to {space.vocab_size - 1}"
        )
    special = {space.eos_id, space.pad_id, *space.unpushable}
    special |= set() if space.bos_id is None else {space.bos_id}
    pushable = np.setdiff1d(wanted, sorted(special)).astype(np.int64)
    if not len(pushable):
        raise ConfigError("no noise token may be pushed: all of them are special; name others")
    return pushable


def _wrong_token(
    pushable: npt.NDArray[np.int64], right: int, rng: np.random.Generator
) -> int | None:
    """Draws uniformly from the sorted `pushable` tokens other than `right`; None if there is none.

    One draw of an index, moved past the right token, is exactly uniform without rejection.
    """
    place = int(np.searchsorted(pushable, right))
    holds_right = place < len(pushable) and int(pushable[place]) == right
    num_wrong = len(pushable) - int(holds_right)
    if num_wrong == 0:
        return None
    index = int(rng.integers(num_wrong))
    return int(pushable[index + int(holds_right and index >= place)])
