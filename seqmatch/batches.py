"""The rows of a run: split, tokenised once, and drawn batch by batch as trajectories.

A draw is a function of the seed and of how many rows were drawn before, so the data cursor is one
number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from seqmatch.config import RunConfig
from seqmatch.corruption import clean_trajectory, corrupt
from seqmatch.demonstrations import check_trainable, fit_to_limit, num_tokens, split
from seqmatch.encoding import text_ids
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.evaluation import HeldOutRows
from seqmatch.model_noise import corrupt_by_policy
from seqmatch.objectives import CorruptionConfig
from seqmatch.policy import Policy
from seqmatch.reporting import Reporter
from seqmatch.seeding import generator
from seqmatch.text import tokenize_demonstrations
from seqmatch.types import Demonstration, TokenizedDemonstration, Trajectory


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a run as tokens."""

    train: tuple[TokenizedDemonstration, ...]
    held_out: HeldOutRows
    """All held-out rows, in an order drawn with the split's seed."""
    noise_ids: tuple[int, ...] | None
    """The tokens that noise draws from; None for the whole vocabulary."""
    max_tokens: int
    """The limit on a row's prompt and answer, which noise does not go beyond either."""


def prepare_rows(
    config: RunConfig, demonstrations: Sequence[Demonstration], policy: Policy, reporter: Reporter
) -> TrainingRows:
    """Splits the demonstrations, tokenises them and applies the limit on their length.

    Raises:
        DemonstrationError: Nothing to train on, or nothing held out, is left; or a row is over the
            limit and the config says to refuse that.
        ConfigError: The noise tokens cannot be pushed.
    """
    indices, _ = split(demonstrations, config.data.heldout_fraction, config.data.split_seed)
    tokenized = _tokenized(demonstrations, indices, policy)
    train, what_happened = _within_limit(config, tokenized, policy)
    if what_happened:
        reporter.event("warning", "rows_over_limit", what_happened)
    check_trainable(train, policy.space.eos_id)
    return TrainingRows(
        train=train,
        held_out=held_out_rows(config, demonstrations, policy, reporter),
        noise_ids=noise_ids(config.objective.corruption, policy),
        max_tokens=_limit(config, policy),
    )


def held_out_rows(
    config: RunConfig,
    demonstrations: Sequence[Demonstration],
    policy: Policy,
    reporter: Reporter | None = None,
) -> HeldOutRows:
    """Returns the held-out rows of a run, in an order drawn with the split's seed.

    A reporter is told of rows over the limit on length.

    Raises:
        DemonstrationError: None is left within the limit on length.
    """
    _, indices = split(demonstrations, config.data.heldout_fraction, config.data.split_seed)
    order = generator(config.data.split_seed, "held-out order").permutation(len(indices))
    rows, what_happened = _text_and_tokens(
        config, demonstrations, [indices[at] for at in order], policy
    )
    if what_happened and reporter is not None:
        reporter.event("warning", "held_out_rows_over_limit", f"held-out rows: {what_happened}")
    return rows


def training_rows(
    config: RunConfig, demonstrations: Sequence[Demonstration], policy: Policy, count: int
) -> HeldOutRows:
    """Returns up to `count` training rows of a run, drawn with the split's seed.

    Those over the limit on length are treated as in training, so fewer may be left.

    Raises:
        DemonstrationError: None is left within the limit on length.
    """
    indices, _ = split(demonstrations, config.data.heldout_fraction, config.data.split_seed)
    order = generator(config.data.split_seed, "drawn training rows").permutation(len(indices))
    rows, _ = _text_and_tokens(
        config, demonstrations, [indices[at] for at in order[:count]], policy
    )
    return rows


def noise_ids(corruption: CorruptionConfig, policy: Policy) -> tuple[int, ...] | None:
    """Returns the tokens that noise draws from; None for the whole vocabulary.

    Raises:
        ConfigError: The token set has no token that noise may push.
    """
    if corruption.alphabet != "token_set":
        return None
    found = tuple(dict.fromkeys(text_ids(policy.tokenizer, corruption.token_set)))
    if not set(found) - policy.space.unpushable:
        raise ConfigError(
            f"objective.corruption.token_set {corruption.token_set[:40]!r} has no token that noise "
            "may push; name at least one ordinary token, for example '0123456789'"
        )
    return found


def draw_indices(num_rows: int, num_drawn: int, batch_size: int, seed: int) -> list[int]:
    """Returns the next `batch_size` row indices after `num_drawn` draws.

    Each pass over the `num_rows` rows has its own permutation; a batch may span passes.
    """
    indices: list[int] = []
    while len(indices) < batch_size:
        data_pass, position = divmod(num_drawn + len(indices), num_rows)
        order = _order(num_rows, data_pass, seed)
        indices += order[position : position + batch_size - len(indices)].tolist()
    return indices


def drawn_trajectories(
    rows: TrainingRows,
    indices: Sequence[int],
    policy: Policy,
    corruption: CorruptionConfig,
    rng: np.random.Generator,
    *,
    max_positions: int,
) -> list[Trajectory]:
    """Returns these rows as trajectories, with mistakes where the policy has backspace.

    Args:
        rows: The rows of the run.
        indices: Which of them, in the order of the result.
        policy: The policy as it is now: with the alphabet "model_top_k" the mistakes are its own.
        corruption: How often, how many and which mistakes.
        rng: Numpy generator; equal state and weights give equal trajectories.
        max_positions: Input positions that go through the policy at once.
    """
    space = policy.space
    demonstrations = [rows.train[index] for index in indices]
    if not space.has_backspace:
        return [clean_trajectory(each, space) for each in demonstrations]
    if corruption.alphabet == "model_top_k":
        return corrupt_by_policy(
            policy,
            demonstrations,
            corruption,
            rng,
            max_tokens=rows.max_tokens,
            max_positions=max_positions,
        )
    return [
        corrupt(each, space, corruption, rows.noise_ids, rng, rows.max_tokens)
        for each in demonstrations
    ]


@lru_cache(maxsize=2)
def _order(num_rows: int, data_pass: int, seed: int) -> npt.NDArray[np.int64]:
    """One pass's permutation; cached because every batch of the pass needs it."""
    return generator(seed, "data order", data_pass).permutation(num_rows)


def _tokenized(
    demonstrations: Sequence[Demonstration], indices: Sequence[int], policy: Policy
) -> list[TokenizedDemonstration]:
    rows = [demonstrations[index] for index in indices]
    return tokenize_demonstrations(policy.tokenizer, rows, indices)


def _text_and_tokens(
    config: RunConfig,
    demonstrations: Sequence[Demonstration],
    indices: Sequence[int],
    policy: Policy,
) -> tuple[HeldOutRows, str]:
    """These rows within the limit, and a sentence on the others; empty where there is none."""
    tokenized, what_happened = _within_limit(
        config, _tokenized(demonstrations, indices, policy), policy
    )
    texts = tuple(demonstrations[row.index] for row in tokenized)
    return HeldOutRows(demonstrations=texts, tokenized=tokenized), what_happened


def _within_limit(
    config: RunConfig, tokenized: Sequence[TokenizedDemonstration], policy: Policy
) -> tuple[tuple[TokenizedDemonstration, ...], str]:
    """The rows within the limit, and a sentence on the others; empty where there is none."""
    limit = _limit(config, policy)
    rows = tuple(fit_to_limit(tokenized, limit, config.data.too_long))
    if not rows:
        raise DemonstrationError(
            f"all {len(tokenized)} rows have more than {limit} tokens; raise data.max_tokens, or "
            "choose data.too_long 'cut'"
        )
    num_over = sum(num_tokens(row) > limit for row in tokenized)
    num_dropped = len(tokenized) - len(rows)
    if not num_over:
        return rows, ""
    return rows, (
        f"{num_over} of {len(tokenized)} rows have more than {limit} tokens: {num_dropped} were "
        f"left out and {num_over - num_dropped} cut"
    )


def _limit(config: RunConfig, policy: Policy) -> int:
    return min(config.data.max_tokens, policy.max_positions or config.data.max_tokens)
