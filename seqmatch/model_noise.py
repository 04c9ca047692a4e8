"""Noise that the policy proposes itself: the wrong tokens that it finds likeliest, state by state.

Uniform noise teaches to take back what the policy would hardly ever write; its own likeliest
mistakes are those that it will meet. Not in the paper (docs/method.md, "Corruption").

All random numbers are drawn before the policy is asked, so the trajectories are a function of the
generator, the policy's weights and the batch: a resumed run draws what the unbroken one drew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seqmatch.corruption import Strike, plan_strikes, pushable_tokens, with_mistakes
from seqmatch.decoding.sampling import choose_by_uniform
from seqmatch.micro_batches import num_passes, share
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.types import TokenizedDemonstration, Trajectory

if TYPE_CHECKING:
    from jaxtyping import Float

_STATES_AT_ONCE = 256
"""States whose logits are held at a time."""


@dataclass
class _Struck:
    """One demonstration that noise strikes, while its wrong tokens are being found."""

    demo: TokenizedDemonstration
    strikes: tuple[Strike, ...]
    uniforms: tuple[tuple[float, ...], ...]
    """One number for each wrong token of each strike."""
    mistakes: dict[int, list[int]]
    """The wrong tokens so far, by the index of the answer token that they stand before."""

    def open_states(self, place: int) -> list[tuple[int, Strike, float]]:
        """(time, strike, uniform number) where the wrong token at `place` of a burst is to come.

        The time is that of the last corrupted state of the burst so far, along the trajectory with
        the mistakes so far; at place 0 it is the clean state before the answer token.
        """
        found = []
        num_wrong = 0  # in the bursts before: each wrong token takes two steps of time
        for strike, numbers in zip(self.strikes, self.uniforms, strict=True):
            so_far = len(self.mistakes.get(strike.at, ()))
            if strike.length > place and so_far == place:
                found.append((strike.at + 2 * num_wrong + place, strike, numbers[place]))
            num_wrong += so_far
        return found


@torch.no_grad()
def corrupt_by_policy(
    policy: Policy,
    demos: Sequence[TokenizedDemonstration],
    config: CorruptionConfig,
    rng: np.random.Generator,
    *,
    max_tokens: int | None = None,
    max_positions: int,
) -> list[Trajectory]:
    """Returns demonstrations with the policy's own likeliest mistakes, undone by backspaces.

    Strikes are those of `plan_strikes`. In each struck state s the wrong token is drawn among the
    `config.top_k` likeliest tokens in proportion to p(x|s), the right token and the special ones
    left out; the next token of a burst in the same way from the state that the last one led to.
    A burst ends early, or is left out, where no token is left to draw.

    The k-th wrong tokens of all bursts are found by one masked forward pass without gradient, cut
    into shares of `max_positions`, so the struck rows go through at most `config.burst` times.

    Args:
        policy: A policy with backspace; its weights are only read.
        demos: Prompts and answers; prompts are never corrupted.
        config: Rate, longest burst and top_k.
        rng: Numpy generator; equal state and weights give equal trajectories.
        max_tokens: As in `plan_strikes`.
        max_positions: Input positions that go through the policy at once.

    Returns:
        One trajectory for each demonstration, in order.

    Raises:
        ConfigError: The policy has no backspace, or no token may be pushed.
        DemonstrationError: A prompt or an answer has no token.
        DivergedError: The policy's logits are not finite.
    """
    rows = []
    for demo in demos:
        strikes = plan_strikes(demo, config, rng, max_tokens)
        uniforms = tuple(tuple(rng.random(strike.length).tolist()) for strike in strikes)
        rows.append(_Struck(demo, strikes, uniforms, {}))
    for place in range(config.burst):
        asked = [row for row in rows if row.open_states(place)]
        if not asked:
            break
        count = num_passes([_so_far(policy, asked)], max_positions)
        for index in range(count):
            _add_tokens(policy, share(asked, index, count), place, config.top_k)
    return _so_far(policy, rows)


def _so_far(policy: Policy, rows: Sequence[_Struck]) -> list[Trajectory]:
    return [with_mistakes(row.demo, policy.space, row.mistakes) for row in rows]


def _add_tokens(policy: Policy, rows: Sequence[_Struck], place: int, top_k: int) -> None:
    """Draws the wrong token at `place` of every burst of these rows that is so long."""
    batch = build_batch(_so_far(policy, rows), policy.space, device=policy.device)
    hidden = policy.slot_states(batch)
    asked = [(at, *state) for at, row in enumerate(rows) for state in row.open_states(place)]
    for start in range(0, len(asked), _STATES_AT_ONCE):
        chunk = asked[start : start + _STATES_AT_ONCE]
        row = torch.tensor([at for at, *_ in chunk], device=policy.device)
        time = torch.tensor([time for _, time, *_ in chunk], device=policy.device)
        # In a corrupted state the right action is backspace, which is no token.
        right = [rows[at].demo.completion_ids[strike.at] for at, _, strike, _ in chunk]
        uniforms = torch.tensor([number for *_, number in chunk], dtype=torch.float64)
        tokens = _draw(
            policy,
            policy.step_logits(hidden[row, batch.state_slot[row, time]]),
            right if place == 0 else [],
            top_k,
            uniforms.to(policy.device),
        )
        for (at, _, strike, _), token in zip(chunk, tokens, strict=True):
            if token is not None:
                rows[at].mistakes.setdefault(strike.at, []).append(token)


def _draw(
    policy: Policy,
    logits: "Float[Tensor, 'state vocab']",
    right: Sequence[int],
    top_k: int,
    uniforms: "Float[Tensor, ' state']",
) -> list[int | None]:
    """Draws among the likeliest pushable tokens that are not right; None where there is none."""
    pushable = torch.from_numpy(pushable_tokens(policy.space)).to(logits.device)
    allowed = torch.full_like(logits, -torch.inf)
    allowed[:, pushable] = logits[:, pushable].to(allowed.dtype)
    if right:
        allowed[range(len(right)), right] = -torch.inf
    top, tokens = allowed.topk(min(top_k, allowed.shape[1]), dim=1)
    has_token = top[:, 0] != -torch.inf
    chosen = choose_by_uniform(top.where(has_token[:, None], 0.0), uniforms)
    drawn = tokens.gather(1, chosen[:, None])[:, 0].tolist()
    return [token if has else None for token, has in zip(drawn, has_token.tolist(), strict=True)]
