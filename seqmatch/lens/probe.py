"""A probe: a discriminator trained after the fact to tell two sets of answers apart.

Its cross entropy puts half of an answer's weight on its last token, since there h is the log ratio
of the whole answer (docs/method.md, D12: the pair (s, stop) occurs in one answer only), and half on
all its tokens, for the heat map and because earlier tokens help to learn the last one:

    w_t = 1/2 [t = N - 1] + 1/(2 T),   T = mean number of tokens of all answers of both sides

A pair's weight depends on the pair alone, never on how its answer goes on, and is the same on both
sides: so the minimiser is h*(s, a) = log P/Q at every pair. Spreading the half evenly over each
answer's own N would not do: at inner tokens h* would move by log E_P[1/N | s, a] / E_Q[1/N | s, a].
The weights of a side sum to 1 where both sides' answers are equally long, else in the mean of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seqmatch.discriminators import (
    Discriminator,
    PairFeatures,
    WeightedScores,
    binary_cross_entropy,
    trajectory_weights,
)
from seqmatch.discriminators.feature_rows import feature_rows
from seqmatch.errors import ConfigError
from seqmatch.seeding import child_seed, generator

NUM_STEPS = 200
CHECK_EVERY = 5
PATIENCE = 4
"""Checks without a new best after which the fit ends."""
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.01
WIDTH = 32
NUM_QUARTERS = 4


@dataclass(frozen=True)
class Labelled:
    """Features of one side, and the prompt that each answer belongs to."""

    features: PairFeatures
    groups: tuple[int, ...]
    """One number an answer; answers of one number are never split apart."""

    def of_groups(self, groups: set[int]) -> PairFeatures:
        """Returns the features of the answers to these prompts."""
        return feature_rows(
            self.features, [row for row, group in enumerate(self.groups) if group in groups]
        )


@dataclass(frozen=True)
class _Side:
    """What the loss needs of one side: x of every pair, and the weights of pairs."""

    embedded: Float[Tensor, "pair feature"]
    weights: Float[Tensor, " pair"]

    def scores(self, probe: Discriminator) -> WeightedScores:
        return WeightedScores(probe.score(self.embedded), self.weights)


def fit_probe(data: Labelled, rollouts: Labelled, *, seed: int, quarter: int = 0) -> Discriminator:
    """Returns the probe with the least cross entropy of whole answers on a quarter of the prompts.

    It is fitted on the other three quarters, full batch, by AdamW. Step 0, where h = 0, is one of
    the candidates: where nothing can be told apart the probe tends to say so. The global random
    generators are left alone, and the same seed gives the same probe.

    Args:
        data: Demonstrations.
        rollouts: Answers to the same prompts.
        seed: Of the new weights and of the order in which prompts are cut into quarters.
        quarter: Which of the four says when to stop.

    Raises:
        ConfigError: The two sides have less than two prompts in common.
    """
    common = sorted(set(data.groups) & set(rollouts.groups))
    if len(common) < 2:
        raise ConfigError(f"a probe needs at least 2 prompts, found {len(common)}")
    held = _held_prompts(common, seed, quarter)
    fitted_on = (set(data.groups) | set(rollouts.groups)) - held
    probe = Discriminator(
        data.features.states.shape[1],
        data.features.actions.shape[1],
        width=WIDTH,
        seed=child_seed(seed, "probe weights"),
    ).to(data.features.states.device)
    fit = (data.of_groups(fitted_on), rollouts.of_groups(fitted_on))
    checks = (data.of_groups(held), rollouts.of_groups(held))
    mean_length = _mean_length(fit)
    _descend(
        probe,
        [_Side(_embedded(probe, side), _fit_weights(side, mean_length)) for side in fit],
        [_Side(_embedded(probe, side), _last_weights(side)) for side in checks],
    )
    return probe.requires_grad_(False).eval()


def fit_weights(
    is_action: Bool[Tensor, "batch time"],
    mean_length: float,
    row_weights: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Returns the weights of the fit: half at the last token, half at all of them.

    Args:
        is_action: True for t < N.
        mean_length: T, the same for both sides, in tokens.
        row_weights: The probability of each answer where a law is enumerated; None weighs each one
            1/batch.
    """
    last = trajectory_weights(is_action, row_weights)
    of_row = last.sum(dim=1, keepdim=True)
    return 0.5 * last + torch.where(is_action, of_row / (2.0 * mean_length), 0.0)


def _held_prompts(groups: Sequence[int], seed: int, quarter: int) -> set[int]:
    """The four quarters are disjoint; of fewer than four prompts each is a quarter."""
    order = generator(seed, "probe quarters").permutation(np.asarray(groups))
    first = quarter % min(NUM_QUARTERS, len(groups))
    return set(order[first::NUM_QUARTERS].tolist())


def _descend(probe: Discriminator, fit: Sequence[_Side], checks: Sequence[_Side]) -> None:
    """Leaves the probe at its best step."""
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best_value, best, num_worse = _value(probe, checks), _copy(probe), 0
    for step in range(1, NUM_STEPS + 1):
        optimizer.zero_grad()
        binary_cross_entropy(*(side.scores(probe) for side in fit)).backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        if step % CHECK_EVERY:
            continue
        value = _value(probe, checks)
        if value < best_value:
            best_value, best, num_worse = value, _copy(probe), 0
        else:
            num_worse += 1
        if num_worse == PATIENCE:
            break
    probe.load_state_dict(best)


@torch.no_grad()
def _value(probe: Discriminator, checks: Sequence[_Side]) -> float:
    return float(binary_cross_entropy(*(side.scores(probe) for side in checks)))


def _copy(probe: Discriminator) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in probe.state_dict().items()}


@torch.no_grad()
def _embedded(probe: Discriminator, features: PairFeatures) -> Float[Tensor, "pair feature"]:
    """Returns x once for all steps: no answer has a backspace, whose vector alone is learnt."""
    return probe.embedded(features)


def _mean_length(sides: Sequence[PairFeatures]) -> float:
    num_tokens = sum(int(side.is_action.sum()) for side in sides)
    return num_tokens / sum(side.is_action.shape[0] for side in sides)


def _fit_weights(features: PairFeatures, mean_length: float) -> Float[Tensor, " pair"]:
    return fit_weights(features.is_action, mean_length)[features.is_action]


def _last_weights(features: PairFeatures) -> Float[Tensor, " pair"]:
    return trajectory_weights(features.is_action)[features.is_action]
