"""Demonstrations with mistakes and the backspaces that undo them, and trajectories cut at a limit.

Labels and pushes are two arrays. Where noise strikes, another token than the demonstrated one is
*pushed*, but the *label* stays the demonstrated one: the demonstrator chose it and the dynamics
failed. In every corrupted state the label is backspace, also where the dynamics fail once more and
push the next token of a burst. A wrong token is never a label, so training never teaches to make
the mistake. Source: Cundy & Ermon (arXiv 2306.05426), noise augmentation; bursts are ours.

Where a limit cuts a trajectory, the same is done with the stop token: it is pushed by force, and
the label stays the true next action.

Which wrong tokens: this module draws them from a fixed set; `seqmatch.model_noise` asks the policy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Strike:
    """Noise at one place of an answer."""

    at: int
    """Index of the answer token that should have been pushed."""
    length: int
    """Wrong tokens in a row, at least 1."""


def plan_strikes(
    demo: TokenizedDemonstration,
    config: CorruptionConfig,
    rng: np.random.Generator,
    max_tokens: int | None = None,
) -> tuple[Strike, ...]:
    """Draws where noise strikes, and how many wrong tokens it inserts there.

    Each answer token, the stop token included, is struck with probability `config.rate` and at most
    once; the length is uniform on 1 .. `config.burst`, or on as many as there is room for.

    Args:
        demo: Prompt and answer; only the answer is struck.
        config: The rate and the longest burst.
        rng: Numpy generator; equal state gives equal strikes.
        max_tokens: No state gets longer than this, prompt included; None is no limit. A
            demonstration within the limit has room for one wrong token everywhere.
    """
    struck = np.flatnonzero(rng.random(len(demo.completion_ids)) < config.rate)
    longest = np.full(len(struck), config.burst)
    if max_tokens is not None:
        longest = np.minimum(longest, max_tokens - len(demo.prompt_ids) - struck)
        struck, longest = struck[longest > 0], longest[longest > 0]
    lengths = rng.integers(1, longest, endpoint=True)
    return tuple(
        Strike(at, length) for at, length in zip(struck.tolist(), lengths.tolist(), strict=True)
    )


def with_mistakes(
    demo: TokenizedDemonstration, space: ActionSpace, mistakes: Mapping[int, Sequence[int]]
) -> Trajectory:
    """Returns the demonstration with these wrong tokens, each undone by a backspace.

    Wrong tokens w_1 .. w_L before the answer token x_i give these records, 2 L of them:

        state            label      push
        s                x_i        w_1
        s w_1 .. w_k     backspace  w_{k+1}       for k = 1 .. L-1
        s w_1 .. w_k     backspace  backspace     for k = L .. 1

    and then (s, x_i, x_i) as without noise.

    Args:
        demo: Prompt and answer; the prompt is never corrupted.
        space: An action space with backspace.
        mistakes: Wrong tokens by the index of the answer token that they stand before; none of
            them the stop token.

    Raises:
        ConfigError: The space has no backspace.
        DemonstrationError: The prompt or the answer has no token.

    Source: Cundy & Ermon (arXiv 2306.05426), noise augmentation, for L = 1; longer bursts follow
    the same rule (docs/method.md, "Corruption").
    """
    if not space.has_backspace:
        raise ConfigError("corruption needs the backspace action; this policy has none")
    _check(demo)
    labels: list[int] = []
    pushes: list[int] = []
    for at, token in enumerate(demo.completion_ids):
        wrong = mistakes.get(at, ())
        if wrong:
            labels += [token] + [space.backspace_id] * (2 * len(wrong) - 1)
            pushes += [*wrong, *[space.backspace_id] * len(wrong)]
        labels.append(token)
        pushes.append(token)
    pushes[-1] = space.eos_id
    return Trajectory(demo.prompt_ids, tuple(labels), tuple(pushes))


def corrupt(
    demo: TokenizedDemonstration,
    space: ActionSpace,
    config: CorruptionConfig,
    noise_ids: Sequence[int] | None,
    rng: np.random.Generator,
    max_tokens: int | None = None,
) -> Trajectory:
    """Returns the demonstration with mistakes drawn from a fixed set of tokens.

    Strikes are those of `plan_strikes`. The first wrong token of a burst is uniform over the noise
    tokens except the right one, the stop, start and padding tokens and all other unpushable ones;
    the later ones, in states where only backspace is right, are uniform over the pushable noise
    tokens. Where nothing is left to draw from (the only noise token is the right one), the position
    stays clean.

    Args:
        demo: Prompt and answer; the prompt is never corrupted.
        space: An action space with backspace.
        config: The rate and the longest burst; the alphabet has been turned into `noise_ids`.
        noise_ids: Tokens to draw from; None is the whole vocabulary.
        rng: Numpy generator; equal state gives an equal trajectory.
        max_tokens: As in `plan_strikes`.

    Returns:
        Labels and pushes; N = answer tokens + 2 * wrong tokens.

    Raises:
        ConfigError: The space has no backspace, or no noise token may be pushed.
        DemonstrationError: The prompt or the answer has no token.

    Source: Cundy & Ermon, noise augmentation; the exclusions are ours: with x' = x_i the backspace
    label would punish the right token, and x' = stop would end the episode.
    """
    pushable = pushable_tokens(space, None if noise_ids is None else tuple(noise_ids))
    mistakes: dict[int, list[int]] = {}
    for strike in plan_strikes(demo, config, rng, max_tokens):
        first = _wrong_token(pushable, demo.completion_ids[strike.at], rng)
        if first is not None:
            later = pushable[rng.integers(len(pushable), size=strike.length - 1)]
            mistakes[strike.at] = [first, *later.tolist()]
    return with_mistakes(demo, space, mistakes)


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
def pushable_tokens(
    space: ActionSpace, noise_ids: tuple[int, ...] | None = None
) -> npt.NDArray[np.int64]:
    """Returns the tokens that noise may push, sorted, special ones left out.

    Cached, because it spans the vocabulary and each row needs it; do not write to it.

    Args:
        space: The action space.
        noise_ids: Tokens to choose from; None is the whole vocabulary.

    Raises:
        ConfigError: None is left, or one is not in the vocabulary.
    """
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
