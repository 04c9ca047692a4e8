"""Answering prompts with a policy, with the backspace action or without.

An episode is a sequence of actions: tokens, and `space.backspace_id` for taking the last one
back. Where backspace may not happen its logit is -inf, so the other actions are renormalised:

* at the floor, where only the prompt stands;
* in the last `min(max_new_tokens, max_actions // 4)` actions of the budget, so that an answer is
  not cut off in the middle of a correction;
* everywhere, if decoding without backspace was asked for.

Greedy decoding (temperature 0) also bans, in each state, the tokens that were taken back there: the
policy is a function of the state, so it would otherwise repeat the same mistake for ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from seqmatch.config import DecodingConfig
from seqmatch.errors import DemonstrationError
from seqmatch.kv_cache import LivePrefixes
from seqmatch.policy import Policy
from seqmatch.reporting import Trace
from seqmatch.sampling import choose_by_uniform
from seqmatch.text import answer_text, piece_after
from seqmatch.uniforms import UniformSource

__all__ = ["Rollout", "UniformSource", "generate", "standing_tokens", "to_trace"]

OnActions = Callable[[list[tuple[int, int]]], None]
CACHE_BYTES = 1 << 30
"""Key/value cache of the rows that are decoded together; further rows wait."""


@dataclass(frozen=True)
class Rollout:
    """One episode of a policy."""

    prompt_ids: tuple[int, ...]
    actions: tuple[int, ...]
    is_finished: bool
    """False where a limit ended it before the stop token."""


def generate(
    policy: Policy,
    prompts_ids: Sequence[tuple[int, ...]],
    decoding: DecodingConfig,
    *,
    backspace: bool,
    uniforms: UniformSource,
    on_actions: OnActions | None = None,
    should_stop: Callable[[], bool] | None = None,
    row_ids: Sequence[int] | None = None,
) -> list[Rollout]:
    """Returns one episode for each prompt, in the order of the prompts.

    The action at index n of a row is chosen with `uniforms` at (row id, n), so an episode does not
    depend on what else is decoded; equal up to the rounding of differently shaped products.

    Args:
        policy: The policy; its weights are only read.
        prompts_ids: None of them empty.
        decoding: Temperature, top-p and limits.
        backspace: Whether backspace may be used; without effect where the policy has none.
        uniforms: The random numbers; not used at temperature 0.
        on_actions: Receives (row, action) pairs as soon as they are chosen.
        should_stop: Asked before each forward pass; True ends all episodes where they are.
        row_ids: Identities of the rows for the random numbers; by default their positions.

    Raises:
        DemonstrationError: A prompt leaves no room in the model's context.
        DivergedError: The logits are not finite.
    """
    identities = np.arange(len(prompts_ids)) if row_ids is None else np.asarray(row_ids)
    rollouts: dict[int, Rollout] = {}
    for rows in _together(policy, prompts_ids, decoding.max_new_tokens):
        episodes = _Episodes(
            policy,
            rows,
            [prompts_ids[row] for row in rows],
            identities[rows].astype(np.int64),
            decoding,
            backspace,
            uniforms,
            on_actions,
        )
        episodes.run(should_stop)
        rollouts |= episodes.rollouts()
    return [rollouts[row] for row in range(len(prompts_ids))]


def standing_tokens(actions: Sequence[int], backspace_id: int) -> tuple[int, ...]:
    """Returns the tokens that stand after the actions, the stop token among them."""
    stack: list[int] = []
    for action in actions:
        if action == backspace_id:
            del stack[-1:]
        else:
            stack.append(action)
    return tuple(stack)


def to_trace(
    policy: Policy, rollout: Rollout, prompt_text: str, reference: str | None = None
) -> Trace:
    """Returns an episode as people read it: the text of each action, and what stands at the end."""
    tokenizer, backspace_id = policy.tokenizer, policy.space.backspace_id
    stack: list[int] = []
    pieces: list[str] = []
    for action in rollout.actions:
        if action == backspace_id:
            del stack[-1:]
            pieces.append("")
        else:
            pieces.append(piece_after(tokenizer, stack, action))
            stack.append(action)
    return Trace(
        prompt=prompt_text,
        actions=rollout.actions,
        pieces=tuple(pieces),
        text=answer_text(tokenizer, stack),
        num_backspaces=rollout.actions.count(backspace_id),
        is_finished=rollout.is_finished,
        reference=reference,
    )


class _Episodes:
    """Some rows decoded together; arrays are over the rows that are still alive."""

    def __init__(
        self,
        policy: Policy,
        rows: NDArray[np.int64],
        prompts: list[tuple[int, ...]],
        identities: NDArray[np.int64],
        decoding: DecodingConfig,
        backspace: bool,
        uniforms: UniformSource,
        on_actions: OnActions | None,
    ) -> None:
        self.policy, self.decoding, self.uniforms = policy, decoding, uniforms
        self.on_actions = on_actions
        self.backspace = backspace and policy.space.has_backspace
        self.reserve = min(decoding.max_new_tokens, decoding.max_actions // 4)
        self.all_rows, self.prompts = rows, prompts
        self.limits = _depth_limits(policy, prompts, decoding.max_new_tokens)
        self.states = LivePrefixes(policy, prompts, int(self.limits.max()))
        # What happened, over all rows of this object.
        self.actions = np.zeros((len(rows), decoding.max_actions), dtype=np.int64)
        self.num_actions = np.zeros(len(rows), dtype=np.int64)
        self.is_finished = np.zeros(len(rows), dtype=bool)
        # `alive[i]` is the row, in those arrays, of row i of `states`.
        self.alive: NDArray[np.int64] = np.arange(len(rows))
        self.identities = identities
        self.taken_back: dict[tuple[int, int], set[int]] = {}
        """Greedy only: tokens taken back, by (row, depth of the state)."""

    def run(self, should_stop: Callable[[], bool] | None) -> None:
        """Decodes until every row has ended."""
        going = np.arange(len(self.alive))
        while going.size and not (should_stop is not None and should_stop()):
            pushing, tokens = self._decide(going)
            if not pushing.size:
                return
            if 2 * pushing.size <= len(self.states):
                self.states.keep(pushing)
                self.alive = self.alive[pushing]
                pushing = np.arange(len(self.alive))
            self.states.push(pushing, tokens)
            going = pushing

    def rollouts(self) -> dict[int, Rollout]:
        """Returns the episodes so far, by the row's position among the prompts."""
        return {
            int(row): Rollout(
                self.prompts[at],
                tuple(self.actions[at, : self.num_actions[at]].tolist()),
                bool(self.is_finished[at]),
            )
            for at, row in enumerate(self.all_rows)
        }

    def _decide(self, going: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lets each row act until it pushes a token or ends; no forward pass is needed for it.

        Returns:
            The rows that go on, and the tokens that they push.
        """
        pushing: list[NDArray[np.int64]] = []
        tokens: list[NDArray[np.int64]] = []
        while going.size:
            actions = self._choose(going)
            self._record(going, actions)
            row = self.alive[going]
            is_pop = actions == self.policy.space.backspace_id
            has_budget = self.num_actions[row] < self.decoding.max_actions
            self._take_back(going[is_pop])
            self.is_finished[row[actions == self.policy.space.eos_id]] = True
            has_room = self.states.depth[going] + 1 < self.limits[row]
            goes_on = ~is_pop & has_budget & has_room & ~self.is_finished[row]
            pushing.append(going[goes_on])
            tokens.append(actions[goes_on])
            going = going[is_pop & has_budget]
        order = np.argsort(np.concatenate(pushing), kind="stable")
        return np.concatenate(pushing)[order], np.concatenate(tokens)[order]

    def _choose(self, going: NDArray[np.int64]) -> NDArray[np.int64]:
        row = self.alive[going]
        can_delete = None
        if self.backspace:
            left = self.decoding.max_actions - self.num_actions[row]
            allowed = (self.states.depth[going] > 0) & (left > self.reserve)
            can_delete = torch.from_numpy(allowed).to(self.policy.device)
        with torch.no_grad():
            logits = self.policy.step_logits(self.states.current(going), can_delete)
            if self.decoding.temperature == 0.0:
                chosen = self._ban_taken_back(logits, going).argmax(dim=1)
            else:
                numbers = self.uniforms.draw(self.identities[row], self.num_actions[row])
                chosen = choose_by_uniform(
                    logits,
                    torch.from_numpy(numbers).to(logits.device),
                    temperature=self.decoding.temperature,
                    top_p=self.decoding.top_p,
                )
        actions: NDArray[np.int64] = chosen.cpu().numpy()
        return actions

    def _record(self, going: NDArray[np.int64], actions: NDArray[np.int64]) -> None:
        row = self.alive[going]
        self.actions[row, self.num_actions[row]] = actions
        self.num_actions[row] += 1
        if self.on_actions is not None:
            numbers = self.all_rows[row].tolist()
            self.on_actions(list(zip(numbers, actions.tolist(), strict=True)))

    def _take_back(self, rows: NDArray[np.int64]) -> None:
        if not rows.size:
            return
        if self.decoding.temperature == 0.0:
            for row, depth in zip(self.alive[rows], self.states.depth[rows], strict=True):
                self._remember(int(row), int(depth))
        self.states.pop(rows)

    def _remember(self, row: int, depth: int) -> None:
        """Bans the token at `depth` in the state under it; the state above will not come again."""
        self.taken_back.pop((row, depth), None)
        actions = self.actions[row, : self.num_actions[row] - 1].tolist()
        token = standing_tokens(actions, self.policy.space.backspace_id)[-1]
        self.taken_back.setdefault((row, depth - 1), set()).add(token)

    def _ban_taken_back(self, logits: torch.Tensor, going: NDArray[np.int64]) -> torch.Tensor:
        keys = zip(self.alive[going].tolist(), self.states.depth[going].tolist(), strict=True)
        for at, key in enumerate(keys):
            if banned := self.taken_back.get(key):
                logits[at, sorted(banned)] = -torch.inf
        return logits


def _depth_limits(
    policy: Policy, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> NDArray[np.int64]:
    """How many tokens may stand above each prompt."""
    lengths = np.array([len(prompt) for prompt in prompts])
    limit = policy.max_positions
    room = np.full(len(prompts), max_new_tokens) if limit is None else limit - lengths
    if lengths.min() < 1 or room.min() < 1:
        raise DemonstrationError(
            f"a prompt of {lengths.max() if lengths.min() else 0} tokens cannot be answered; the "
            f"model reads 1 to {(limit or 0) - 1} tokens of prompt"
        )
    limits: NDArray[np.int64] = np.minimum(room, max_new_tokens)
    return limits


def _together(
    policy: Policy, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[NDArray[np.int64]]:
    """Groups rows of similar prompt length such that each group's cache fits its limit."""
    if not prompts:
        return []
    lengths = np.array([len(prompt) for prompt in prompts])
    order = np.argsort(lengths, kind="stable")
    config = policy.lm_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    slot_bytes = 8 * config.num_hidden_layers * heads * width
    groups: list[list[int]] = [[]]
    for row in order.tolist():
        slots = int(lengths[row]) + max_new_tokens + 1
        if groups[-1] and (len(groups[-1]) + 1) * slots * slot_bytes > CACHE_BYTES:
            groups.append([])
        groups[-1].append(row)
    return [np.array(group) for group in groups]
