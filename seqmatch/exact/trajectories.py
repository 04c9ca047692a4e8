"""Every trajectory of a small language with its probability, for the product's own losses.

A batch of them with `weights` gives exact expectations through code that was written for samples.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seqmatch.errors import ConfigError
from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.languages import STOP, State
from seqmatch.exact.output_law import log_output_law
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.types import StateActionValues

MAX_TRAJECTORIES = 50_000


@dataclass(frozen=True, eq=False)
class WeightedTrajectories:
    """All trajectories of a law. Beyond a row's N the state is its terminal one, the label stop."""

    states: Int[Tensor, "batch state"]
    """Numbers of the chain's states s_0 .. s_N."""
    labels: Int[Tensor, "batch time"]
    num_actions: Int[Tensor, " batch"]
    """N of each row."""
    weights: Float[Tensor, " batch"]
    """Probabilities; they sum to 1."""

    @property
    def is_action(self) -> Bool[Tensor, "batch time"]:
        """True for t < N."""
        return torch.arange(self.labels.shape[1]) < self.num_actions[:, None]


def enumerate_demonstrations(demonstrator: Demonstrator) -> WeightedTrajectories:
    """Lists every answer with every pattern of mistakes.

    Raises:
        ConfigError: There are more than 50,000.
    """
    language, chain = demonstrator.language, demonstrator.chain
    num = sum(
        math.prod(len(ways) for ways in _ways(demonstrator, answer))
        for answer, probability in language.law.items()
        if probability > 0
    )
    if num > MAX_TRAJECTORIES:
        raise ConfigError(
            f"{num:,} demonstrations with their mistakes; allowed: {MAX_TRAJECTORIES:,}. "
            "A shorter burst or fewer answers make fewer"
        )
    rows = [
        (*_actions(answer, [wrong for wrong, _ in ways], chain.backspace), probability * share)
        for answer, probability in language.law.items()
        if probability > 0
        for ways in itertools.product(*_ways(demonstrator, answer))
        if (share := math.prod(each for _, each in ways)) > 0
    ]
    return _tabled(chain, rows)


def enumerate_answers(
    chain: TokenChain, log_probs: Float[Tensor, "state action"]
) -> WeightedTrajectories:
    """Lists every rollout of a policy without backspace; the weights have no gradient.

    Raises:
        ConfigError: The chain has backspace, so that there are infinitely many.
    """
    if chain.has_backspace:
        raise ConfigError("with backspace there are infinitely many rollouts; use occupancies")
    law = log_output_law(chain, log_probs.detach()).exp().tolist()
    answers = [chain.states[number] for number in chain.terminal.tolist()]
    rows = [
        (answer, answer, probability)
        for answer, probability in zip(answers, law, strict=True)
        if probability > 0
    ]
    return _tabled(chain, rows)


def values_along(
    policy: ExactPolicy,
    trajectories: WeightedTrajectories,
    *,
    value_temperature: float | None = None,
    with_backspace_q: bool = False,
) -> StateActionValues:
    """Returns l(y_t|s_t), V(s_t) and the trajectories' weights, as `Policy.state_action_values`.

    Args:
        policy: On the chain of the trajectories.
        trajectories: All of a law.
        value_temperature: The beta of `tempered_values`, above 0; None leaves them out.
        with_backspace_q: Whether to fill in what the calibration of backspace needs.
    """
    chain, logits = policy.chain, policy.logits()
    states, labels, is_action = trajectories.states, trajectories.labels, trajectories.is_action
    is_state = torch.cat([torch.ones_like(is_action[:, :1]), is_action], dim=1)
    here = states[:, :-1]
    tempered = None
    if value_temperature is not None:
        tempered = value_temperature * (logits / value_temperature).logsumexp(dim=-1)
        tempered = tempered[here] * is_action
    backspace_q, can_delete = None, None
    if with_backspace_q and chain.has_backspace:
        can_delete = chain.can_delete[states] & is_state
        at_floor = ~chain.can_delete
        backspace_q = logits[:, chain.backspace].masked_fill(at_floor, 0.0)[states] * is_state
    return StateActionValues(
        chosen_q=logits[here, labels] * is_action,
        values=logits.logsumexp(dim=-1)[states] * is_state,
        is_action=is_action,
        weights=trajectories.weights,
        tempered_values=tempered,
        backspace_q=backspace_q,
        can_delete=can_delete,
        is_backspace_label=None if backspace_q is None else is_action & (labels == chain.backspace),
    )


_Way = tuple[State, float]
"""Wrong tokens before one answer token, and their probability."""


def _ways(demonstrator: Demonstrator, answer: State) -> list[list[_Way]]:
    return [list(_ways_at(demonstrator, at, token)) for at, token in enumerate(answer)]


def _ways_at(demonstrator: Demonstrator, at: int, token: int) -> Iterator[_Way]:
    """What can happen before the answer token at this place."""
    tokens = range(1, demonstrator.chain.vocab)
    others = [each for each in tokens if each != token]
    longest = min(demonstrator.burst, demonstrator.chain.max_length - 1 - at)
    if not demonstrator.noise_rate or longest < 1 or not others:
        yield (), 1.0
        return
    yield (), 1.0 - demonstrator.noise_rate
    for length in range(1, longest + 1):
        num = len(others) * len(tokens) ** (length - 1)
        for first in others:
            for later in itertools.product(tokens, repeat=length - 1):
                yield (first, *later), demonstrator.noise_rate / longest / num


def _actions(answer: State, mistakes: Sequence[State], backspace: int) -> tuple[State, State]:
    """Labels and pushes of one demonstration."""
    labels: list[int] = []
    pushes: list[int] = []
    for token, wrong in zip(answer, mistakes, strict=True):
        undo = [backspace] * len(wrong)
        pushes += [*wrong, *undo, token]
        labels += [token, *undo, *undo[1:], token] if wrong else [token]
    return tuple(labels), tuple(pushes)


def _tabled(chain: TokenChain, rows: Sequence[tuple[State, State, float]]) -> WeightedTrajectories:
    """Replays (labels, pushes, probability) and pads the rows to one length."""
    num_actions = torch.tensor([len(labels) for labels, _, _ in rows])
    labels = pad_sequence([torch.tensor(row[0]) for row in rows], True, STOP)
    pushes = pad_sequence([torch.tensor(row[1]) for row in rows], True, STOP)
    states = [torch.zeros(len(rows), dtype=torch.long)]
    for time in range(pushes.shape[1]):
        states.append(chain.next_state[states[-1], pushes[:, time]])
    weights = torch.tensor([row[2] for row in rows], dtype=torch.float64)
    return WeightedTrajectories(torch.stack(states, dim=1), labels, num_actions, weights)
