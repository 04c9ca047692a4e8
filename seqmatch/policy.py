"""A policy: base model, adapter and backspace row.

The logits over actions are `[head(h), h . backspace_row]` with `h` the last hidden state of the
live prefix. Backspace is only a row of the unembedding, never an input token, so the adapter alone
is a plain PEFT folder that every PEFT runtime loads and uses without backspace.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn

from seqmatch.action_space import ActionSpace
from seqmatch.architectures import backbone_and_head, check_decoding, position_limit
from seqmatch.base_model_loading import (
    load_base,
    load_tokenizer,
    read_model,
    read_tokenizer,
)
from seqmatch.base_models import check_adapter
from seqmatch.config import AdapterConfig
from seqmatch.new_weights import seeded_weights
from seqmatch.packing import let_pack, pack_for, pack_mask, unpacked
from seqmatch.pass_mode import PLAIN, PassMode, recomputable_blocks, running
from seqmatch.policy_files import PolicyManifest, read_manifest, write_policy_files
from seqmatch.single_pass import additive_mask
from seqmatch.soft_q import SoftHead, transform_of
from seqmatch.text import stop_id
from seqmatch.types import SinglePassBatch, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch.nn.attention.flex_attention import BlockMask


class Policy(nn.Module):
    """A causal language model as a policy over tokens and, where it has one, backspace."""

    lm: Any
    """A causal language model of transformers, PEFT-wrapped or not."""
    backspace_row: nn.Parameter | None

    def __init__(
        self,
        lm: nn.Module,
        tokenizer: Any,
        space: ActionSpace,
        *,
        base_model: str,
        adapter: AdapterConfig,
    ) -> None:
        """Puts the parts together; the backspace row starts as the mean unembedding row.

        So backspace begins near an average token's logit, whatever offset the logits have.
        """
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.space = space
        self.base_model = base_model
        self.adapter = adapter
        plain = self._plain_lm()
        backbone, linear = backbone_and_head(plain, base_model)
        head = SoftHead.in_place_of(linear, transform_of(plain.config))
        plain.set_output_embeddings(head)
        # In a tuple, so that they are not registered a second time under another name.
        self._parts = backbone, head
        self._mode, self._blocks = PLAIN, tuple[nn.Module, ...]()
        row = self.head_weight.detach().mean(dim=0).clone() if space.has_backspace else None
        self.backspace_row = None if row is None else nn.Parameter(row)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head_weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of hidden states and masks."""
        return self.head_weight.dtype

    @property
    def head(self) -> SoftHead:
        """The unembedding, in its place in the model; to be called, not read (FSDP)."""
        return self._parts[1]

    @property
    def head_weight(self) -> Tensor:
        """The unembedding, one row a token; sharded where the policy is."""
        return self.head.weight

    @property
    def lm_config(self) -> Any:
        """The model's config, as transformers has it."""
        return self.lm.config

    @property
    def max_positions(self) -> int | None:
        """The longest input, prompt and answer together, where the model has a limit."""
        return position_limit(self.lm_config)

    @property
    def transformer(self) -> Any:
        """The module of transformers that gives the last hidden states."""
        return self._parts[0]

    @property
    def pass_mode(self) -> PassMode:
        """How masked passes are computed; decoding is always in the type of the weights."""
        return self._mode

    def set_pass_mode(self, mode: PassMode) -> None:
        """Lets masked passes be computed in a mode from now on.

        Raises:
            ConfigError: The model cannot run its blocks again in the backward pass, or not packed.
        """
        if mode.is_packed:
            let_pack(self._plain_lm(), self.base_model)
        if mode.is_checkpointed and not self._blocks:
            self._blocks = recomputable_blocks(self._plain_lm(), self.base_model)
        self._mode = mode

    def backbone(self, **inputs: Any) -> Any:
        """Runs the model up to its last hidden states; arguments as in transformers."""
        return self._parts[0](**inputs)

    def hidden_states(
        self,
        input_ids: "Int[Tensor, 'batch slot']",
        position_ids: "Int[Tensor, 'batch slot'] | None" = None,
        attention_mask: "Float[Tensor, 'batch 1 slot slot'] | BlockMask | None" = None,
    ) -> "Float[Tensor, 'batch slot hidden']":
        """Returns the last hidden state of every slot, in the type of the weights.

        Without mask and positions attention is plain causal, the fast path. Positions are never
        passed without a mask: transformers would read them as packed sequences.
        """
        with running(self._mode, self._blocks, self.device):
            output = self.backbone(
                input_ids=input_ids,
                position_ids=None if attention_mask is None else position_ids,
                attention_mask=attention_mask,
                use_cache=False,
            )
        return output.last_hidden_state.to(self.dtype)  # type: ignore[no-any-return]

    def slot_states(self, batch: SinglePassBatch) -> "Float[Tensor, 'batch slot hidden']":
        """Returns the last hidden state of every slot by one masked forward pass."""
        dtype = self._mode.half or self.dtype
        if self._mode.is_packed:
            pack = pack_for(batch)
            of_pack = (pack.input_ids, pack.position_ids, pack_mask(pack, dtype))
            return unpacked(self.hidden_states(*of_pack), pack, batch)
        mask = None if batch.is_plain else additive_mask(batch.enters, batch.leaves, dtype)
        return self.hidden_states(batch.input_ids, batch.position_ids, mask)

    def forward(self, batch: SinglePassBatch, **asked: Any) -> StateActionValues:
        """Returns `state_action_values`: what DDP and FSDP call."""
        return self.state_action_values(batch, **asked)

    def state_action_values(
        self,
        batch: SinglePassBatch,
        *,
        value_temperature: float | None = None,
        with_backspace_q: bool = False,
        hidden: "Float[Tensor, 'batch slot hidden'] | None" = None,
    ) -> StateActionValues:
        """Returns l(y_t|s_t) for t < N and V(s_t) for t <= N by one masked forward pass.

        `V` is the logsumexp over the actions that exist in the state: without backspace where
        `batch.can_delete` is False. Beyond each row's N all values are 0.

        Args:
            batch: The trajectories.
            value_temperature: The beta of `tempered_values`, above 0; None leaves them out.
            with_backspace_q: Whether to fill in what the calibration of backspace needs; nothing
                is, where the policy has no backspace.
            hidden: What `slot_states` returned for this batch, where somebody else needs it too;
                None runs the model.

        Source: Cundy & Ermon (arXiv 2306.05426), masking; docs/method.md, "One pass for all
        states".
        """
        if hidden is None:
            hidden = self.slot_states(batch)
        num_rows, num_states = batch.state_slot.shape
        times = torch.arange(num_states, device=hidden.device)
        is_state = times <= batch.num_actions[:, None]
        row, time = is_state.nonzero(as_tuple=True)
        # The last state has no action; a column of False and 0 makes both arrays equally long.
        is_action = nn.functional.pad(batch.is_action, (0, num_states - batch.is_action.shape[1]))
        labels = nn.functional.pad(batch.labels, (0, num_states - batch.labels.shape[1]))
        visited = hidden[row, batch.state_slot[row, time]].to(self._mode.half or hidden.dtype)
        at = row * num_states + time

        def scattered(numbers: Tensor) -> Tensor:
            empty = numbers.new_zeros(num_rows * num_states)
            return empty.index_copy(0, at, numbers).view(num_rows, num_states)

        num_times = batch.labels.shape[1]
        temperatures = (1.0,) if value_temperature is None else (1.0, value_temperature)
        found = self.head(
            visited,
            labels[row, time],
            batch.can_delete[row, time],
            is_action[row, time],
            self.backspace_row,
            temperatures,
        )
        # Q of the last call, so that a loss on Q and tempered values is one backward pass.
        chosen, values = scattered(found[-1][0]), scattered(found[0][1])
        tempered = None if value_temperature is None else scattered(found[-1][1])[:, :num_times]
        backspace_q = None
        if with_backspace_q and self.backspace_row is not None:
            # As wide as the other two: the product of halves would be rounded to a half.
            wide = values.dtype
            backspace_q = visited.to(wide) @ self.backspace_row.to(wide)
            backspace_q = scattered(self.head.transform.of(backspace_q))
        return StateActionValues(
            chosen_q=chosen[:, :num_times],
            values=values,
            is_action=batch.is_action,
            tempered_values=tempered,
            backspace_q=backspace_q,
            can_delete=None if backspace_q is None else batch.can_delete,
            is_backspace_label=None
            if backspace_q is None
            else batch.is_action & (batch.labels == self.space.backspace_id),
        )

    def step_logits(
        self,
        hidden: "Float[Tensor, 'state hidden']",
        can_delete: "Bool[Tensor, ' state'] | bool" = False,
    ) -> "Float[Tensor, 'state action']":
        """Returns the logits over actions of some states; -inf for backspace where it is banned.

        Without a backspace row, or with `can_delete` False, only tokens are actions; with True
        backspace is one everywhere.
        """
        transform = self.head.transform
        logits = transform.of(self.head(hidden))
        if self.backspace_row is None or can_delete is False:
            return logits
        backspace = transform.of(hidden @ self.backspace_row)
        if can_delete is not True:
            backspace = backspace.masked_fill(~can_delete, -torch.inf)
        return torch.cat([logits, backspace[:, None]], dim=1)

    def _plain_lm(self) -> Any:
        return self.lm.get_base_model() if isinstance(self.lm, PeftModel) else self.lm

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Returns what an optimiser may change, by names that stay the same across processes."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def load_policy(
    base_model: str,
    adapter: AdapterConfig,
    backspace: bool,
    *,
    seed: int,
    device: str | torch.device,
    models_dir: Path,
    allowed: Sequence[str] = (),
) -> Policy:
    """Returns a fresh policy: the base model with a new adapter and backspace row.

    Args:
        base_model: A built-in name, or one of `allowed`.
        adapter: lora adds adapters to all linear layers (not the unembedding), without dropout;
            full trains every weight.
        backspace: Whether the policy has the backspace action.
        seed: For new weights; the global random generator is left alone.
        device: Where the weights go.
        models_dir: Where prepared models are.
        allowed: Folders and hub ids that the operator allowed.

    Raises:
        ModelLoadError: The base model is not allowed, not there, or not supported.
        ConfigError: LoRA was asked for on a model that has only random weights.
    """
    check_adapter(base_model, adapter.kind)
    lm = load_base(base_model, seed=seed, models_dir=models_dir, allowed=allowed)
    tokenizer = load_tokenizer(base_model, models_dir=models_dir, allowed=allowed)
    if adapter.kind == "lora":
        lm = _with_new_lora(lm, adapter, base_model, seed)
    return _assemble(lm, tokenizer, backspace, base_model, adapter).to(device)


def save_policy(policy: Policy, folder: Path) -> None:
    """Writes the policy: PEFT adapter files, or the whole model with its tokenizer for full.

    Beside them stand `backspace.safetensors` (where there is the action) and `seqmatch.json`.

    Raises:
        OSError: A file could not be written.
    """
    write_policy_files(
        folder,
        lm=policy.lm,
        tokenizer=policy.tokenizer,
        backspace_row=policy.backspace_row,
        manifest=PolicyManifest(
            base_model=policy.base_model,
            adapter=policy.adapter,
            backspace=policy.space.has_backspace,
            stop_id=policy.space.eos_id,
        ),
    )


def load_saved_policy(
    folder: Path, *, device: str | torch.device, models_dir: Path, allowed: Sequence[str] = ()
) -> Policy:
    """Returns the policy that `save_policy` wrote, ready to answer or to train on.

    Raises:
        ModelLoadError: A file is missing, damaged or not safetensors, or the base model is not
            there.
    """
    manifest, backspace_row = read_manifest(folder)
    base_model, adapter = manifest.base_model, manifest.adapter
    if adapter.kind == "full":
        lm: nn.Module = read_model(str(folder))
        tokenizer = read_tokenizer(str(folder))
    else:
        base = load_base(base_model, seed=0, models_dir=models_dir, allowed=allowed)
        lm = PeftModel.from_pretrained(base, str(folder), is_trainable=True)
        tokenizer = load_tokenizer(base_model, models_dir=models_dir, allowed=allowed)
    policy = _assemble(lm, tokenizer, manifest.backspace, base_model, adapter)
    if policy.backspace_row is not None and backspace_row is not None:
        with torch.no_grad():
            policy.backspace_row.copy_(backspace_row)
    return policy.to(device)


def _assemble(
    lm: nn.Module, tokenizer: Any, backspace: bool, base_model: str, adapter: AdapterConfig
) -> Policy:
    space = action_space(tokenizer, int(_output_rows(lm)), backspace)
    policy = Policy(lm, tokenizer, space, base_model=base_model, adapter=adapter)
    check_decoding(policy, base_model)
    return policy


def action_space(tokenizer: Any, vocab_size: int, backspace: bool) -> ActionSpace:
    """Returns the action space of a model with this tokenizer and so many unembedding rows.

    Noise never pushes special tokens or rows that no token has (vocabularies are often padded).
    """
    eos_id = stop_id(tokenizer)
    special = {key for key, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {*tokenizer.all_special_ids, *range(len(tokenizer), vocab_size), eos_id}
    pad_id = tokenizer.pad_token_id
    return ActionSpace(
        vocab_size=vocab_size,
        eos_id=eos_id,
        pad_id=eos_id if pad_id is None else pad_id,
        bos_id=tokenizer.bos_token_id,
        has_backspace=backspace,
        unpushable=frozenset(special),
    )


def _output_rows(lm: nn.Module) -> int:
    return int(lm.get_output_embeddings().weight.shape[0])  # type: ignore[operator]


def _with_new_lora(lm: nn.Module, adapter: AdapterConfig, base_model: str, seed: int) -> nn.Module:
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=adapter.rank,
        lora_alpha=adapter.scaling,
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
    )
    with seeded_weights(seed):
        wrapped: nn.Module = get_peft_model(lm, config)
    # What stands in the adapter's files: a name, never where this machine keeps the weights.
    wrapped.peft_config["default"].base_model_name_or_path = base_model  # type: ignore[union-attr, index]
    return wrapped
