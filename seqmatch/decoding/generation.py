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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.episodes import Episode, Episodes, OnActions, likeliest, sampled
from seqmatch.decoding.live_prefixes import RING_DEPTHS
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.errors import DemonstrationError
from seqmatch.policy import Policy
from seqmatch.reporting import Trace
from seqmatch.text import answer_text, piece_after

__all__ = [
    "OnActions",
    "Rollout",
    "UniformSource",
    "generate",
    "standing_tokens",
    "to_trace",
]

ROWS_BYTES = 1 << 30
"""Keys, values and logits of the rows that are decoded together; further prompts wait."""


@dataclass(frozen=True)
class Rollout:
    """One episode of a policy."""

    prompt_ids: tuple[int, ...]
    actions: tuple[int, ...]
    is_finished: bool
    """False where a limit ended it before the stop token or a stop string."""


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
    if not prompts_ids:
        return []
    limits = _depth_limits(policy, prompts_ids, decoding.max_new_tokens)
    identities = range(len(prompts_ids)) if row_ids is None else row_ids
    episodes = [
        Episode(number, identity, prompt, limit)
        for number, (identity, prompt, limit) in enumerate(
            zip(identities, prompts_ids, limits, strict=True)
        )
    ]
    choose = likeliest if decoding.temperature == 0.0 else sampled(decoding, uniforms)
    for group in _of_similar_length(episodes):
        num_rows = max(1, ROWS_BYTES // _row_bytes(policy, group))
        Episodes(
            policy,
            group,
            num_rows,
            decoding,
            choose,
            backspace=backspace,
            on_actions=on_actions,
        ).run(should_stop)
    return [Rollout(each.prompt_ids, tuple(each.actions), each.is_finished) for each in episodes]


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


def _depth_limits(
    policy: Policy, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[int]:
    """How many tokens may stand above each prompt."""
    lengths = [len(prompt) for prompt in prompts]
    most = policy.max_positions
    room = [max_new_tokens if most is None else most - length for length in lengths]
    if min(lengths) < 1 or min(room) < 1:
        raise DemonstrationError(
            f"a prompt of {max(lengths) if min(lengths) else 0} tokens cannot be answered; the "
            f"model reads 1 to {(most or 0) - 1} tokens of prompt"
        )
    return [min(one, max_new_tokens) for one in room]


def _of_similar_length(episodes: Iterable[Episode]) -> list[list[Episode]]:
    """Groups of episodes of which none has more than twice the room of another, the short first."""

    def room(episode: Episode) -> int:
        return len(episode.prompt_ids) + episode.limit

    groups: list[list[Episode]] = []
    for episode in sorted(episodes, key=room):
        if groups and room(episode) <= 2 * room(groups[-1][0]):
            groups[-1].append(episode)
        else:
            groups.append([episode])
    return groups


def _row_bytes(policy: Policy, episodes: Iterable[Episode]) -> int:
    """What a row takes that has room for each of some episodes: cache, states and logits."""
    config = policy.lm_config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    slot = 2 * config.num_hidden_layers * heads * width + config.hidden_size
    slots = max(len(each.prompt_ids) + each.limit + 1 for each in episodes)
    # Beside the ring: the logits at hand, and what sampling makes of them.
    logits = (RING_DEPTHS + 4) * policy.space.vocab_size
    return int((slot * slots + logits) * policy.head_weight.element_size())
