"""Episodes of many prompts in the rows of one batch.

Each row acts until it has pushed a token or has ended, which needs no forward pass; one forward
pass then reads the pushed tokens of all rows. A row that has ended makes room for a waiting prompt.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.decoding.sampling import choose_by_uniform
from seqmatch.decoding.stop_strings import has_stop_string
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.policy import Policy

OnActions = Callable[[list[tuple[int, int]]], None]
_REFILL_SHARE = 4
"""Prompts are read when at least one row of so many is free: few passes, each over several."""
_NUMBERS_AT_ONCE = 64
"""Random numbers that are drawn for an episode at once."""


@dataclass
class Episode:
    """One prompt's episode while it goes on."""

    number: int
    """Which prompt, for the caller."""
    identity: int
    """Of the row, for the random numbers."""
    prompt_ids: tuple[int, ...]
    limit: int
    """How many tokens may stand above the prompt."""
    actions: list[int] = field(default_factory=list)
    stack: list[int] = field(default_factory=list)
    """The tokens that stand."""
    numbers: list[float] = field(default_factory=list)
    """The random numbers of its actions, as far as they have been drawn."""
    taken_back: dict[int, set[int]] = field(default_factory=dict)
    """The tokens that were taken back, by the depth of the state under them."""
    is_finished: bool = False


Choice = Callable[[Tensor, Sequence[Episode]], Tensor]
"""Chooses the next action of some episodes from their logits [episode, action], -inf where an
action does not exist. It may change the logits."""


def sampled(decoding: DecodingConfig, uniforms: UniformSource) -> Choice:
    """Returns the choice by the random number of (identity, index of the action)."""

    def next_number(episode: Episode) -> float:
        index = len(episode.actions)
        if index == len(episode.numbers):
            rows = np.full(_NUMBERS_AT_ONCE, episode.identity)
            episode.numbers += uniforms.draw(rows, index + np.arange(_NUMBERS_AT_ONCE)).tolist()
        return episode.numbers[index]

    def choose(logits: Tensor, episodes: Sequence[Episode]) -> Tensor:
        numbers = [next_number(each) for each in episodes]
        return choose_by_uniform(
            logits,
            torch.tensor(numbers, dtype=torch.float64, device=logits.device),
            temperature=decoding.temperature,
            top_k=decoding.top_k,
            top_p=decoding.top_p,
            min_p=decoding.min_p,
        )

    return choose


def likeliest(logits: Tensor, episodes: Sequence[Episode]) -> Tensor:
    """The likeliest actions; in each state not those tokens that were taken back there."""
    for at, episode in enumerate(episodes):
        if tokens := episode.taken_back.get(len(episode.stack)):
            logits[at, sorted(tokens)] = -torch.inf
    return logits.argmax(dim=1)


class Episodes:
    """Decodes episodes together; `rows[i]` is the episode in row i of `states`."""

    def __init__(
        self,
        policy: Policy,
        episodes: Sequence[Episode],
        num_rows: int,
        decoding: DecodingConfig,
        choose: Choice,
        *,
        backspace: bool,
        on_actions: OnActions | None = None,
    ) -> None:
        """Makes room for `num_rows` episodes at once; the others wait in their order."""
        self.policy, self.decoding, self.choose = policy, decoding, choose
        self.on_actions = on_actions
        # Asked at each action: some are found anew at every access.
        self.backspace_id, self.stop_id = policy.space.backspace_id, policy.space.eos_id
        self.stops = decoding.stops
        self.backspace = backspace and policy.space.has_backspace
        self.reserve = min(decoding.max_new_tokens, decoding.max_actions // 4)
        self.waiting = deque(episodes)
        self.num_rows = min(num_rows, len(episodes))
        self.states = LivePrefixes(
            policy,
            num_rows=self.num_rows,
            longest_prompt=max(len(each.prompt_ids) for each in episodes),
            max_depth=max(each.limit for each in episodes),
            backspace=self.backspace,
        )
        self.rows: list[Episode] = []

    def run(self, should_stop: Callable[[], bool] | None) -> None:
        """Decodes until every episode has ended."""
        while True:
            # Each is a forward pass: of the prompts that find room, or of all rows' last tokens.
            if should_stop is not None and should_stop():
                return
            if self._has_room():
                room = self.num_rows - len(self.rows)
                fresh = [self.waiting.popleft() for _ in range(min(room, len(self.waiting)))]
                rows = self.states.add([each.prompt_ids for each in fresh])
                self.rows += fresh
            elif self.rows:
                rows = np.arange(len(self.rows))
                self.states.push(rows, np.array([each.stack[-1] for each in self.rows]))
            else:
                return
            self._act(rows)
            self._drop_ended()

    def _has_room(self) -> bool:
        room = self.num_rows - len(self.rows)
        return bool(self.waiting) and room * _REFILL_SHARE >= self.num_rows

    def _act(self, rows: NDArray[np.int64]) -> None:
        """Lets rows act until each has pushed a token or has no budget."""
        while rows.size:
            actions = self._choose(rows)
            popping = [
                row
                for row, action in zip(rows.tolist(), actions, strict=True)
                if self._take(self.rows[row], action)
            ]
            if self.on_actions is not None:
                numbers = [self.rows[row].number for row in rows.tolist()]
                self.on_actions(list(zip(numbers, actions, strict=True)))
            popped = np.array(popping, dtype=np.int64)
            self.states.pop(popped)
            has_budget = [
                len(self.rows[row].actions) < self.decoding.max_actions for row in popping
            ]
            rows = popped[np.array(has_budget, dtype=bool)]

    def _take(self, episode: Episode, action: int) -> bool:
        """Adds an action to an episode; returns whether it is a backspace."""
        episode.actions.append(action)
        stack = episode.stack
        if action != self.backspace_id:
            stack.append(action)
            episode.is_finished = action == self.stop_id or (
                bool(self.stops) and has_stop_string(self.policy.tokenizer, stack, self.stops)
            )
            return False
        token = stack.pop()
        # The state above will not come again.
        episode.taken_back.pop(len(stack) + 1, None)
        episode.taken_back.setdefault(len(stack), set()).add(token)
        return True

    @torch.inference_mode()
    def _choose(self, rows: NDArray[np.int64]) -> list[int]:
        episodes = [self.rows[row] for row in rows.tolist()]
        logits = self.states.logits(rows)
        if self.backspace:
            last = self.decoding.max_actions - self.reserve
            is_banned = [not each.stack or len(each.actions) >= last for each in episodes]
            if any(is_banned):
                where = torch.tensor(is_banned, device=logits.device)
                logits[:, -1].masked_fill_(where, -torch.inf)
        return self.choose(logits, episodes).tolist()

    def _has_ended(self, episode: Episode) -> bool:
        return (
            episode.is_finished
            or len(episode.stack) >= episode.limit
            or len(episode.actions) >= self.decoding.max_actions
        )

    def _drop_ended(self) -> None:
        ended = [row for row, each in enumerate(self.rows) if self._has_ended(each)]
        if not ended:
            return
        sources, targets = self.states.remove(np.array(ended))
        for source, target in zip(sources.tolist(), targets.tolist(), strict=True):
            self.rows[target] = self.rows[source]
        del self.rows[self.states.num_rows :]
