"""What a discriminator sees of a policy: the state and the action of each step, without gradient.

The state is the policy's own last hidden state, which the pass for the policy's loss has computed
already; the action is the base model's input embedding of the label. Both are detached, so no
gradient of a discriminator ever reaches the policy, and nothing of the policy is switched on or off
for it. The price is that the features move with the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seqmatch.types import SinglePassBatch, StateActionValues

if TYPE_CHECKING:
    from seqmatch.policy import Policy


@dataclass(frozen=True)
class PairFeatures:
    """The pairs (s_t, y_t) of a batch, row by row and within a row in time; no padding."""

    states: Float[Tensor, "pair state_feature"]
    """The policy's hidden state of s_t."""
    actions: Float[Tensor, "pair action_feature"]
    """The input embedding of y_t; 0 for backspace, which has none."""
    is_backspace: Bool[Tensor, " pair"]
    is_action: Bool[Tensor, "batch time"]
    """Where the pairs stand in the batch."""
    log_probs: Float[Tensor, " pair"] | None = None
    """log pi(y_t|s_t), for the AIRL form."""


@torch.no_grad()
def pair_features(
    policy: Policy,
    batch: SinglePassBatch,
    *,
    hidden: Float[Tensor, "batch slot hidden"] | None = None,
    values: StateActionValues | None = None,
) -> PairFeatures:
    """Returns the features of every action of a batch.

    Args:
        policy: Gives hidden states and input embeddings.
        batch: The trajectories.
        hidden: What `policy.slot_states(batch)` returned, where the policy's loss has needed it
            anyway; None runs the policy once more.
        values: What `policy.state_action_values(batch)` returned; gives the log-probabilities of
            the AIRL form.
    """
    found = gradient_features(policy, batch, hidden=hidden, values=values)
    return replace(found, states=found.states.detach())


def gradient_features(
    policy: Policy,
    batch: SinglePassBatch,
    *,
    hidden: Float[Tensor, "batch slot hidden"] | None = None,
    values: StateActionValues | None = None,
) -> PairFeatures:
    """Returns the same, with the gradient of the states: for a backbone of the discriminator's own.

    Arguments as for `pair_features`.
    """
    if hidden is None:
        hidden = policy.slot_states(batch)
    row, time = batch.is_action.nonzero(as_tuple=True)
    labels = batch.labels[row, time]
    is_backspace = labels == policy.space.backspace_id
    table: Tensor = policy.lm.get_input_embeddings().weight
    actions = table[labels.masked_fill(is_backspace, 0)]
    log_probs = None
    if values is not None:
        log_probs = (values.chosen_q - values.values[:, :-1])[row, time].detach()
    return PairFeatures(
        states=hidden[row, batch.state_slot[row, time]],
        actions=actions.masked_fill(is_backspace[:, None], 0.0).detach(),
        is_backspace=is_backspace,
        is_action=batch.is_action,
        log_probs=log_probs,
    )
