"""A discriminator as it stands beside a policy: what it reads, its head, and its scores of answers.

Two backbones. `shared` reads the policy's own hidden states, which the policy's loss has computed
anyway; its features move with the policy. `adapter` reads those of a second LoRA adapter on the
same frozen base model: features that stand still but for its own learning, for one more pass
forward and back. The second adapter lives in a copy of the module tree whose frozen weights are the
policy's very tensors, so that nothing is switched on or off, and it costs the memory of a LoRA.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqmatch.discriminators.network import Discriminator
from seqmatch.discriminators.pair_features import PairFeatures, gradient_features, pair_features
from seqmatch.errors import ConfigError
from seqmatch.micro_batches import num_passes, share
from seqmatch.new_weights import seeded_weights
from seqmatch.objectives import DiscriminatorConfig
from seqmatch.policy import Policy
from seqmatch.seeding import child_seed
from seqmatch.single_pass import build_batch
from seqmatch.types import SinglePassBatch, StateActionValues, Trajectory


class PolicyDiscriminator:
    """The log ratio h of demonstrations over a policy's answers, at every action."""

    def __init__(self, policy: Policy, config: DiscriminatorConfig, seed: int) -> None:
        """Makes a new one beside a policy, on its device.

        Args:
            policy: The policy; its weights are never changed.
            config: Backbone, form and size.
            seed: Of the new weights.

        Raises:
            ConfigError: A second adapter is asked for beside a policy whose base model is trained.
        """
        self.config = config
        self.backbone = (
            second_adapter(policy, child_seed(seed, "second adapter"))
            if config.backbone == "adapter"
            else None
        )
        self.head = Discriminator.of(
            policy,
            width=config.width,
            form=config.form,
            has_spectral_norm=config.spectral_norm,
            has_deviation=config.loss == "bradley_terry_deviations",
            seed=child_seed(seed, "head"),
        )
        self.offset = 0.0
        """What is taken off h: the free constant of a loss on pairs."""

    @property
    def moves_by_itself(self) -> bool:
        """True where its features change with its own updates."""
        return self.backbone is not None

    def parameters(self) -> dict[str, nn.Parameter]:
        """Returns what its optimiser may change, by names that stay the same across processes."""
        own = {f"head.{name}": p for name, p in self.head.named_parameters()}
        if self.backbone is not None:
            trained = self.backbone.trainable_parameters()
            own |= {f"adapter.{name}": parameter for name, parameter in trained.items()}
        return own

    def read(
        self,
        policy: Policy,
        batch: SinglePassBatch,
        hidden: Float[Tensor, "batch slot hidden"] | None,
        values: StateActionValues | None,
        *,
        is_recomputed: bool = False,
    ) -> PairFeatures:
        """Returns the features of every action of a batch.

        Args:
            policy: The policy.
            batch: Demonstrations and answers.
            hidden: The policy's states, where they are known.
            values: The policy's values; needed with the form "airl".
            is_recomputed: Where a second adapter is read with gradient: hold its states alone and
                run it again in the backward pass, so that memory is that of one pass of several.
        """
        asked = values if self.config.form == "airl" else None
        if self.backbone is None:
            return pair_features(policy, batch, hidden=hidden, values=asked)
        states = None
        if is_recomputed and torch.is_grad_enabled():
            states = checkpoint(self.backbone.slot_states, batch, use_reentrant=False)
        return gradient_features(self.backbone, batch, hidden=states, values=asked)

    @torch.no_grad()
    def scores(
        self, policy: Policy, trajectories: Sequence[Trajectory], max_positions: int
    ) -> list[Float[Tensor, " time"]]:
        """Returns h of every action of each trajectory, in nats, without gradient."""
        found: list[Tensor] = []
        count = num_passes([trajectories], max_positions)
        self.head.eval()
        for index in range(count):
            rows = share(trajectories, index, count)
            batch = build_batch(rows, policy.space, device=policy.device)
            hidden = None if self.moves_by_itself else policy.slot_states(batch)
            values = None
            if self.config.form == "airl":
                values = policy.state_action_values(batch, hidden=hidden)
            h = self.head(self.read(policy, batch, hidden, values)) - self.offset
            found += [h[at, : len(row.labels)] for at, row in enumerate(rows)]
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Returns all weights, buffers of the head included, to be written to a file."""
        kept = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        if self.backbone is not None:
            trained = self.backbone.trainable_parameters()
            kept |= {f"adapter.{name}": parameter.detach() for name, parameter in trained.items()}
        return {name: value.detach().cpu().contiguous() for name, value in kept.items()}

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Sets all weights to what `tensors` returned."""
        head = {
            name.removeprefix("head."): value
            for name, value in tensors.items()
            if name.startswith("head.")
        }
        self.head.load_state_dict(head)
        if self.backbone is not None:
            for name, parameter in self.backbone.trainable_parameters().items():
                parameter.copy_(tensors[f"adapter.{name}"])


def second_adapter(policy: Policy, seed: int) -> Policy:
    """Returns the policy's base model with a new LoRA adapter, all frozen weights shared.

    At first its hidden states are the base model's own, and computed in the policy's way. Its space
    has no backspace: only states are read.

    Raises:
        ConfigError: The policy trains the base model itself, so that nothing is frozen.
    """
    if policy.adapter.kind != "lora":
        raise ConfigError(
            "discriminator.backbone 'adapter' is a second LoRA on the frozen base model, and with "
            "adapter.kind 'full' nothing is frozen; choose adapter.kind 'lora', or the backbone "
            "'shared'"
        )
    frozen = {
        id(parameter): parameter
        for parameter in policy.lm.parameters()
        if not parameter.requires_grad
    }
    lm = copy.deepcopy(policy.lm, dict(frozen))
    with seeded_weights(seed, policy.device):
        for layer in lm.modules():
            if isinstance(layer, LoraLayer):
                for name in layer.lora_A:
                    layer.reset_lora_parameters(name, True)
    second = Policy(
        lm,
        policy.tokenizer,
        replace(policy.space, has_backspace=False),
        base_model=policy.base_model,
        adapter=policy.adapter,
    )
    second.set_pass_mode(policy.pass_mode)
    return second
