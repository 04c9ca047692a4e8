"""Decoding with a backspace action in transformers, for a policy that was trained with SeqMatch.

    model.generate(**inputs, custom_generate=FOLDER, trust_remote_code=True, seed=0)

FOLDER is the folder (or hub id) that has this file as `custom_generate/generate.py`; beside it
stand `seqmatch.json` and, where the policy has the action, `backspace.safetensors`: the row that
scores it. `model` is the model with its adapter; `generate` below says what it takes and returns.

An episode is a sequence of actions: tokens, and one more that takes the last token back. The state
is the visible prefix. A token that was taken back stays in the key/value cache and is hidden from
then on, and the last hidden state of every depth is kept, so no prefix is ever read twice.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import DynamicCache
from transformers.utils import ModelOutput, cached_file

from seqmatch.decoding.sampling import choose_by_uniform
from seqmatch.decoding.stop_strings import has_stop_string
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.export_files.custom_generate.settings import Settings, read_settings
from seqmatch.soft_q.transform import transform_of

NO_ACTION = -1
"""Fills `actions` behind the end of a row."""


@dataclass
class BackspaceOutput(ModelOutput):  # type: ignore[misc]  # transformers carries no types here
    """What `generate` returns with `return_dict_in_generate=True`."""

    sequences: torch.Tensor | None = None
    """[row, slot]: the prompts as they were given, then the tokens that stand, then padding."""
    actions: torch.Tensor | None = None
    """[row, action]: token ids, one more than the last for a backspace, `NO_ACTION` at the end."""
    num_deletions: torch.Tensor | None = None
    """[row]: how many tokens were taken back."""


@dataclass(frozen=True)
class Exported:
    """What the files of the export say of the policy."""

    stop_id: int
    """The token that ends an answer."""
    max_positions: int | None
    """The longest input, prompt and answer together, on which the policy is exact."""
    row: torch.Tensor | None
    """[hidden]: scores backspace; None where the policy has no such action."""


def generate(
    model: Any,
    inputs: torch.Tensor | None = None,
    generation_config: Any = None,
    *,
    input_ids: torch.Tensor | None = None,
    attention_mask: torch.Tensor | None = None,
    policy_folder: str | None = None,
    **settings: Any,
) -> "torch.Tensor | BackspaceOutput":
    """Answers a batch of prompts; called by `model.generate(..., custom_generate=FOLDER)`.

    Args:
        model: A causal language model of transformers, with the policy's adapter in it.
        inputs: [row, slot] token ids; the same as `input_ids`.
        generation_config: Settings of a `GenerationConfig`; arguments by name go over it. The
            model's own one is not read.
        input_ids: [row, slot] token ids of the prompts. Nothing of them can be taken back.
        attention_mask: [row, slot] 0 at padding, on either side; None where there is none.
        policy_folder: The folder or hub id of the export, where `custom_generate` does not name it.
        settings: Fields of `Settings`.

    Returns:
        `BackspaceOutput.sequences`, or all of it with `return_dict_in_generate=True`.

    Raises:
        ValueError: A setting that this decoder does not have or that is out of its range, prompts
            that leave no room, a model from which no token can be deleted, or no export is found.
    """
    place = policy_folder or settings.pop("custom_generate", None) or _named_by_caller(model)
    settings.pop("trust_remote_code", None)
    chosen = read_settings(generation_config, settings)
    exported = _read(place)
    ids, mask = _prompts(model, inputs if input_ids is None else input_ids, attention_mask)
    _check(model, exported, chosen)
    with torch.no_grad():
        episodes = Decoder(model, exported, chosen).run(ids, mask)
    sequences, actions, num_deletions = _as_tensors(model, episodes, ids, exported, chosen)
    if chosen.return_dict_in_generate:
        return BackspaceOutput(sequences, actions, num_deletions)
    return sequences


@dataclass
class Episode:
    """One row: what happened, and of each state of its visible prefix what is still needed."""

    row: int
    floor: int
    """Tokens of the prompt."""
    limit: int
    """How many tokens may stand above it."""
    actions: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Those that stand."""
    slots: list[int] = field(default_factory=list)
    """Where in the cache they are; the last token has no slot before it is read."""
    states: list[torch.Tensor] = field(default_factory=list)
    """The last hidden state at depths 0, 1, ... above the prompt."""
    is_finished: bool = False
    """True after the stop token or a stop string."""
    taken_back: list[set[int]] = field(default_factory=list)
    """The tokens that were taken back at each of these depths."""

    def take_back(self) -> None:
        """Uncovers the state before the last token; the one above it will not come again."""
        self.slots.pop()
        self.states.pop()
        self.taken_back.pop()
        self.taken_back[-1].add(self.tokens.pop())

    def reach(self, state: torch.Tensor) -> None:
        """Adds the state that the last token led to."""
        self.states.append(state)
        self.taken_back.append(set())


class Decoder:
    """Some rows decoded together. Each forward pass reads one token of every row that goes on."""

    def __init__(self, model: Any, exported: Exported, settings: Settings) -> None:
        """Takes the model apart into the backbone and the unembedding behind it."""
        self.backbone, self.head = model.base_model, model.get_output_embeddings()
        self.transform = transform_of(model.config)
        self.exported, self.settings = exported, settings
        self.row = None if settings.backspace is False else exported.row
        self.backspace_id = self.head.weight.shape[0]
        self.reserve = min(settings.max_new_tokens, settings.max_actions // 4)
        self.uniforms = UniformSource(settings.seed)
        self.cache = DynamicCache()  # without a config: a window is one more mask, not a cut

    def run(self, ids: torch.Tensor, mask: torch.Tensor) -> list[Episode]:
        """Returns the episodes of prompts [row, slot] whose mask is False at padding."""
        going = episodes = self._read_prompts(ids, mask)
        while True:
            before = going
            self._act(going)
            going = [one for one in before if not self._has_ended(one)]
            if not going:
                return episodes
            if len(going) < len(before):
                kept = [at for at, one in enumerate(before) if not self._has_ended(one)]
                self.cache.batch_select_indices(torch.tensor(kept, device=ids.device))
                mask = mask[kept]
            self._read_last_tokens(going, mask)

    def _has_ended(self, episode: Episode) -> bool:
        is_full = len(episode.tokens) >= episode.limit
        return episode.is_finished or is_full or len(episode.actions) >= self.settings.max_actions

    def _act(self, waiting: list[Episode]) -> None:
        """Lets each row act until it pushes a token or has no budget; needs no forward pass."""
        while waiting:
            for episode, action in zip(waiting, self._choose(waiting), strict=True):
                episode.actions.append(action)
                if action == self.backspace_id:
                    episode.take_back()
                else:
                    episode.tokens.append(action)
                    episode.is_finished = action == self.exported.stop_id or has_stop_string(
                        self.settings.tokenizer, episode.tokens, self.settings.stops
                    )
            popped = [one for one in waiting if one.actions[-1] == self.backspace_id]
            waiting = [one for one in popped if not self._has_ended(one)]

    def _choose(self, waiting: list[Episode]) -> list[int]:
        logits = self._logits(waiting)
        if self.settings.is_greedy:
            for at, episode in enumerate(waiting):
                # The policy is a function of the state: it would repeat its mistake for ever.
                logits[at, sorted(episode.taken_back[-1])] = -torch.inf
            return logits.argmax(dim=1).tolist()
        rows = np.array([one.row for one in waiting])
        numbers = self.uniforms.draw(rows, np.array([len(one.actions) for one in waiting]))
        chosen = choose_by_uniform(
            logits,
            torch.from_numpy(numbers).to(logits.device),
            temperature=self.settings.temperature,
            top_k=self.settings.top_k,
            top_p=self.settings.top_p,
            min_p=self.settings.min_p,
        )
        return chosen.tolist()

    def _logits(self, waiting: list[Episode]) -> torch.Tensor:
        """[row, action]: of the tokens, and of backspace; -inf where it may not happen."""
        states = torch.stack([one.states[-1] for one in waiting])
        logits = self.transform.of(self.head(states))
        if self.row is None:
            return logits
        may_delete = [
            bool(one.tokens) and self.settings.max_actions - len(one.actions) > self.reserve
            for one in waiting
        ]
        score = self.transform.of(states @ self.row.to(states))
        score = score.masked_fill(~torch.tensor(may_delete, device=score.device), -torch.inf)
        return torch.cat([logits, score[:, None]], dim=1)

    def _read_prompts(self, ids: torch.Tensor, mask: torch.Tensor) -> list[Episode]:
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        hidden = self._forward(ids, positions, causal & mask[:, None])
        slots = torch.arange(ids.shape[1], device=ids.device)
        last = torch.where(mask, slots, 0).amax(dim=1)
        episodes = []
        for row, floor in enumerate(mask.sum(dim=1).tolist()):
            most = self.exported.max_positions
            room = self.settings.max_new_tokens if most is None else most - floor
            if floor < 1 or room < 1:
                raise ValueError(
                    f"the prompt of row {row} has {floor} tokens; this policy reads 1 to "
                    f"{'any number' if most is None else most - 1}"
                )
            episode = Episode(row, floor, min(room, self.settings.max_new_tokens))
            episode.reach(hidden[row, last[row]])
            episodes.append(episode)
        return episodes

    def _read_last_tokens(self, going: list[Episode], mask: torch.Tensor) -> None:
        """Reads each row's last token into one new slot of the cache; `mask` is the prompts'."""
        slot = self.cache.get_seq_length()
        sees = torch.nn.functional.pad(mask, (0, slot + 1 - mask.shape[1]))
        for at, episode in enumerate(going):
            episode.slots.append(slot)
            sees[at, episode.slots] = True
        ids = torch.tensor([[one.tokens[-1]] for one in going], device=mask.device)
        depths = [[one.floor + len(one.tokens) - 1] for one in going]
        hidden = self._forward(ids, torch.tensor(depths, device=mask.device), sees[:, None])
        for episode, state in zip(going, hidden[:, -1], strict=True):
            episode.reach(state)

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, sees: torch.Tensor
    ) -> torch.Tensor:
        """Returns [row, query, hidden]; `sees` [row, query, slot] is True where a slot is seen."""
        dtype = self.head.weight.dtype
        mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device)
        hidden: torch.Tensor = self.backbone(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask.masked_fill(~sees, torch.finfo(dtype).min)[:, None],
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return hidden


def _named_by_caller(model: Any) -> str:
    """Where the export is. transformers runs a copy of this file and does not say what of.

    So the `custom_generate` of the `model.generate` that called is asked, and where this function
    *is* `model.generate` (a whole model that was loaded with trust_remote_code=True), the model.
    """
    named = sys._getframe(2).f_locals.get("custom_generate")
    return named if isinstance(named, str) else str(model.name_or_path)


def _read(place: str) -> Exported:
    try:
        told = json.loads(_file(place, "seqmatch.json").read_text(encoding="utf-8"))
        row = load_file(_file(place, "backspace.safetensors"))["row"] if told["backspace"] else None
    except (OSError, TypeError) as error:
        raise ValueError(
            f"{place!r} has no custom_generate/seqmatch.json of a policy with its files ({error}); "
            "name the folder of the export with policy_folder=..."
        ) from error
    return Exported(told["stop_id"], told["max_positions"], row)


def _file(place: str, name: str) -> Path:
    return Path(cached_file(place, f"custom_generate/{name}"))


def _prompts(
    model: Any, ids: torch.Tensor | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if ids is None or ids.dim() != 2 or not ids.numel():
        found = "nothing" if ids is None else f"shape {tuple(ids.shape)}"
        raise ValueError(f"input_ids is {found}; it must be [row, slot], at least one of each")
    if mask is None:
        mask = torch.ones_like(ids)
    if mask.shape != ids.shape:
        raise ValueError(
            f"attention_mask is {tuple(mask.shape)} and input_ids {tuple(ids.shape)}; they must be "
            "equal"
        )
    return ids.to(model.device), mask.to(model.device).bool()


def _check(model: Any, exported: Exported, settings: Settings) -> None:
    """Refuses what no token can be deleted from, and a row of another model."""
    kind = type(model).__name__
    layers = DynamicCache(config=model.config).layers
    if getattr(model, "_is_stateful", False) or not all(one.is_croppable for one in layers):
        raise ValueError(
            f"{kind} keeps a state that cannot be rolled back, so no token can be taken back; "
            "models with attention in every layer are supported"
        )
    most = exported.max_positions
    windows = [one.sliding_window for one in layers if one.is_sliding]
    if windows and (most is None or most > min(windows)):
        raise ValueError(
            f"{kind} forgets what is {min(windows)} tokens back (a sliding window), and this "
            f"policy reads {'any number' if most is None else most}; from such a cache no token "
            "can be taken back. Is it the policy's base model?"
        )
    attention = getattr(model.config, "_attn_implementation", None)
    if attention not in (None, "eager", "sdpa"):
        raise ValueError(
            f"attn_implementation is {attention!r}, which cannot hide a token that was taken back; "
            "load the model with attn_implementation='sdpa' or 'eager'"
        )
    if exported.row is None and settings.backspace:
        raise ValueError("this policy has no backspace action; leave backspace=True out")
    width = model.get_output_embeddings().weight.shape[1]
    if exported.row is not None and exported.row.shape != (width,):
        raise ValueError(
            f"the row of backspace has shape {tuple(exported.row.shape)} and {kind} hidden states "
            f"of {width}; is it the policy's base model?"
        )


def _as_tensors(
    model: Any,
    episodes: Sequence[Episode],
    prompts: torch.Tensor,
    exported: Exported,
    settings: Settings,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    own = getattr(model.generation_config, "pad_token_id", None)
    known = (settings.pad_token_id, own, exported.stop_id)
    padding = next(each for each in known if each is not None)

    def filled(lists: list[list[int]], fill: int) -> torch.Tensor:
        longest = max(map(len, lists))
        rows = [one + [fill] * (longest - len(one)) for one in lists]
        return torch.tensor(rows, device=prompts.device)

    answers = filled([one.tokens for one in episodes], padding)
    actions = filled([one.actions for one in episodes], NO_ACTION)
    num_pushes = torch.tensor([len(one.tokens) for one in episodes], device=prompts.device)
    # What does not stand was pushed and taken back: two actions a deletion.
    num_deletions = ((actions != NO_ACTION).sum(dim=1) - num_pushes) // 2
    return torch.cat([prompts, answers], dim=1), actions, num_deletions
