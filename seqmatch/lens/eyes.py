"""Frozen features of the base model: what every probe sees, the same for all runs on one base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from peft import PeftModel
from torch.nn.functional import layer_norm

from seqmatch.config import AdapterConfig
from seqmatch.discriminators import PairFeatures, pair_features
from seqmatch.discriminators.feature_rows import joined
from seqmatch.lens.answers import Answer
from seqmatch.micro_batches import num_passes, share
from seqmatch.policy import Policy, load_policy
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory

BASE_SEED = 0
"""Of a base model with random weights, whatever the run's seed: so that seeds share their axes."""


@dataclass(frozen=True)
class Eyes:
    """Hidden states and input embeddings of the initial weights, never the trained ones.

    What these features do not tell apart no probe does: an AUC of 1/2 says that the eyes see no
    difference, not that there is none. A base model with random weights has weak eyes.
    """

    policy: Policy
    """The base model itself, or a policy whose adapter is off while it is looked through."""

    @staticmethod
    def of(policy: Policy, *, models_dir: Path, allowed: Sequence[str] = ()) -> Eyes:
        """Returns the eyes of a policy's base model, on its device.

        A LoRA policy looks through its own base with the adapter off, without further memory; for
        a policy that is trained whole the base model is loaded a second time.

        Args:
            policy: The policy that is trained.
            models_dir: Where prepared models are.
            allowed: Folders and hub ids that the operator allowed.

        Raises:
            ModelLoadError: The base model is not there any more.
        """
        if isinstance(policy.lm, PeftModel):
            return Eyes(policy)
        base = load_policy(
            policy.base_model,
            AdapterConfig(kind="full"),
            False,
            seed=BASE_SEED,
            device=policy.device,
            models_dir=models_dir,
            allowed=allowed,
        )
        return Eyes.from_policy(base)

    @staticmethod
    def from_policy(base_policy: Policy) -> Eyes:
        """Returns the eyes of a policy that nobody trains; its weights are frozen here."""
        base_policy.requires_grad_(False).eval()
        return Eyes(base_policy)

    @torch.no_grad()
    def features(self, answers: Sequence[Answer], max_positions: int) -> PairFeatures:
        """Returns the features of every token of the answers, in their order.

        The state of a token is [norm(hidden state of s_t), norm(mean hidden state of s_0..s_t)],
        norm without weights: a function of s_t alone. The mean says which tokens stand, which the
        last hidden state of a base model with random weights hardly does.

        Args:
            answers: At least one, none of them empty.
            max_positions: Input positions that go through the model at once.

        Raises:
            DemonstrationError: No answer, or one without a token.
        """
        rows = [
            Trajectory(each.prompt_ids, labels=each.token_ids, pushes=each.token_ids)
            for each in answers
        ]
        count = num_passes([rows], max_positions)
        with _base_alone(self.policy):
            return joined([self._pass(share(rows, index, count)) for index in range(count)])

    def _pass(self, rows: Sequence[Trajectory]) -> PairFeatures:
        batch = build_batch(rows, self.policy.space, device=self.policy.device)
        return _with_running_means(pair_features(self.policy, batch))


def _with_running_means(features: PairFeatures) -> PairFeatures:
    is_action, states = features.is_action, features.states.float()
    padded = states.new_zeros(*is_action.shape, states.shape[1])
    padded[is_action] = states
    num_states = torch.arange(1, is_action.shape[1] + 1, device=states.device)
    means = (padded.cumsum(dim=1) / num_states[:, None])[is_action]
    both = [layer_norm(each, each.shape[1:]) for each in (states, means)]
    return replace(features, states=torch.cat(both, dim=1))


@contextmanager
def _base_alone(policy: Policy) -> Iterator[None]:
    """Turns the adapter off and evaluation mode on, and puts everything back as it was."""
    was_training = [(module, module.training) for module in policy.modules()]
    # peft turns gradients of the adapter on when it turns the adapter on, whatever they were.
    needed_grad = [(each, each.requires_grad) for each in policy.parameters()]
    policy.eval()
    try:
        if isinstance(policy.lm, PeftModel):
            with policy.lm.disable_adapter():
                yield
        else:
            yield
    finally:
        for parameter, needs_grad in needed_grad:
            parameter.requires_grad_(needs_grad)
        for module, is_training in was_training:
            module.training = is_training
