"""The token MDP of a small language as a finite Markov chain: tables over all of its states.

The states form a tree: the empty state, then every prefix of an answer, then every complete answer.
Inserting leads to a child, backspace to the parent. They stand depth by depth, and within a depth
parent by parent and token by token, so that the children of a depth are a rectangle of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from seqmatch.errors import ConfigError
from seqmatch.exact.languages import MAX_LENGTH, MAX_VOCABULARY, STOP, Language, State


@dataclass(frozen=True, eq=False)
class TokenChain:
    """All states that can be reached, and where each action leads.

    Actions are the tokens 0 .. vocab-1 and, with backspace, `vocab`. Which of them exist:

    - at the floor (the empty state) every token, but no backspace;
    - at `max_length` - 1 tokens the stop token and backspace. Whatever else would be inserted there
      leads to the same terminal state: the stop token is forced;
    - at a terminal state the stop token alone, which stays there. So a policy gives it probability
      1, its logit is the state's value V, and occupancies keep the absorbed mass on that entry.
    """

    vocab: int
    max_length: int
    has_backspace: bool
    states: tuple[State, ...]
    index: Mapping[State, int]
    levels: tuple[slice, ...]
    """The states of each depth 0 .. max_length."""
    alive_levels: tuple[Int[Tensor, " alive"], ...]
    """Numbers of the states of each depth that are not terminal: their children, in order, are the
    next depth."""
    next_state: Int[Tensor, "state action"]
    """The state's own number where the action does not exist."""
    exists: Bool[Tensor, "state action"]
    is_terminal: Bool[Tensor, " state"]
    can_delete: Bool[Tensor, " state"]
    depth: Int[Tensor, " state"]
    """Number of tokens, the stop token included."""
    parent: Int[Tensor, " state"]
    """The state without its last token; the empty state is its own."""
    last_token: Int[Tensor, " state"]
    """0 at the empty state."""
    alive: Int[Tensor, " alive"]
    """Numbers of the states that are not terminal, in order."""
    terminal: Int[Tensor, " terminal"]
    """Numbers of the terminal states, in order: the axis of laws of answers."""

    @staticmethod
    def of(language: Language, backspace: bool) -> TokenChain:
        """Returns the chain of a language, with or without the backspace action."""
        return TokenChain.of_size(len(language.tokens), language.max_length, backspace)

    @staticmethod
    def of_size(vocab: int, max_length: int, backspace: bool) -> TokenChain:
        """Returns the chain of all answers over a vocabulary; equal arguments share one chain.

        Args:
            vocab: Number of tokens, the stop token included: 2 to 8.
            max_length: Tokens of the longest answer, the stop token included: 1 to 6.
            backspace: Whether the last token can be taken back.

        Raises:
            ConfigError: A size is outside its range.
        """
        if not 2 <= vocab <= MAX_VOCABULARY or not 1 <= max_length <= MAX_LENGTH:
            raise ConfigError(
                f"{vocab} tokens and answers of up to {max_length}, the stop token included; "
                f"allowed: 2 to {MAX_VOCABULARY} tokens, 1 to {MAX_LENGTH} in an answer"
            )
        return _chain(vocab, max_length, backspace)

    @property
    def num_states(self) -> int:
        """Number of states, terminal ones included."""
        return len(self.states)

    @property
    def num_actions(self) -> int:
        """Number of actions: the tokens, and backspace where the chain has it."""
        return self.vocab + int(self.has_backspace)

    @property
    def backspace(self) -> int:
        """The number of the backspace action, whether or not this chain has it."""
        return self.vocab


@lru_cache(maxsize=8)
def _chain(vocab: int, max_length: int, backspace: bool) -> TokenChain:
    states, levels = _states(vocab, max_length)
    index = {state: number for number, state in enumerate(states)}
    depth = torch.tensor([len(state) for state in states])
    parent = torch.tensor([index[state[:-1]] for state in states])
    last_token = torch.tensor([state[-1] if state else STOP for state in states])
    is_terminal = (last_token == STOP) & (depth > 0)
    is_last = ~is_terminal & (depth == max_length - 1)
    can_delete = ~is_terminal & (depth > 0) & backspace

    number = torch.arange(len(states))
    next_state = number[:, None].repeat(1, vocab + int(backspace))
    children = number[1:]
    next_state[parent[children], last_token[children]] = children
    next_state[is_last, :vocab] = next_state[is_last, STOP][:, None]
    exists = torch.zeros_like(next_state, dtype=torch.bool)
    exists[:, STOP] = True
    exists[~is_terminal & ~is_last, :vocab] = True
    if backspace:
        next_state[can_delete, vocab] = parent[can_delete]
        exists[:, vocab] = can_delete
    return TokenChain(
        vocab=vocab,
        max_length=max_length,
        has_backspace=backspace,
        states=states,
        index=index,
        levels=levels,
        alive_levels=tuple(number[level][~is_terminal[level]] for level in levels),
        next_state=next_state,
        exists=exists,
        is_terminal=is_terminal,
        can_delete=can_delete,
        depth=depth,
        parent=parent,
        last_token=last_token,
        alive=number[~is_terminal],
        terminal=number[is_terminal],
    )


def _states(vocab: int, max_length: int) -> tuple[tuple[State, ...], tuple[slice, ...]]:
    """Every state, depth by depth, and the range of each depth."""
    levels: list[list[State]] = [[()]]
    for length in range(max_length):
        tokens = (STOP,) if length == max_length - 1 else range(vocab)
        alive = [state for state in levels[-1] if not state or state[-1] != STOP]
        levels.append([(*state, token) for state in alive for token in tokens])
    ends = list(itertools.accumulate(len(level) for level in levels))
    ranges = tuple(slice(end - len(level), end) for end, level in zip(ends, levels, strict=True))
    return tuple(itertools.chain.from_iterable(levels)), ranges
