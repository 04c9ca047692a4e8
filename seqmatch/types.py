"""The frozen value objects that cross module borders. Light: torch is imported for types only.

Axes: `batch` sequences, `time` actions (index t = 0..N-1), `state` visited states (t = 0..N, the
last one without an action), `slot` input positions of the single pass, `vocab` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Demonstration:
    """One expert answer: what comes before it, and the answer itself."""

    prompt: str | tuple[Message, ...]
    """Plain text, or the turns before the answer (rendered with the model's chat template)."""
    completion: str
    group: str
    """Rows of one group (the same prompt, the same conversation) are never split apart."""
    source: str = ""
    """Where it came from: "file.jsonl:12"."""


@dataclass(frozen=True)
class TokenizedDemonstration:
    """A demonstration as the policy sees it; the answer ends with the stop token."""

    prompt_ids: tuple[int, ...]
    """At least one token (the beginning-of-sequence token where the prompt is empty)."""
    completion_ids: tuple[int, ...]
    """The answer's tokens and the stop token, all of them supervised."""
    index: int
    """Position in the list of demonstrations that it was made from."""


@dataclass(frozen=True)
class Trajectory:
    """One episode as actions. `labels` and `pushes` are two arrays on purpose.

    At time t the policy is asked for `labels[t]`; what happens is `pushes[t]`. They differ only
    where noise pushed another token than the demonstrator's, or where a limit forced the stop
    token. `backspace` (an id equal to the vocabulary size) stands in both for the action that takes
    back the last token.
    """

    prompt_ids: tuple[int, ...]
    """The part that cannot be deleted; never empty."""
    labels: tuple[int, ...]
    pushes: tuple[int, ...]
    born_at_step: int = 0
    """Optimiser step of the policy that sampled it; 0 for demonstrations."""


@dataclass(frozen=True)
class SinglePassBatch:
    """A batch of trajectories laid out for one masked forward pass."""

    input_ids: Int[Tensor, "batch slot"]
    position_ids: Int[Tensor, "batch slot"]
    enters: Int[Tensor, "batch slot"]
    """When a walk through the row's tree, depth first, comes to the slot."""
    leaves: Int[Tensor, "batch slot"]
    """When it has seen all slots under it: slot q sees slot k iff enters_k <= enters_q < leaves_k.
    Padding is a tree of its own: it sees itself alone."""
    is_plain: bool
    """True where every row is a plain sequence: then causal attention is the same."""
    is_slot: Bool[Tensor, "batch slot"]
    """False at padding."""
    state_slot: Int[Tensor, "batch state"]
    """The slot whose output belongs to the state at time t, t = 0..N; 0 beyond N."""
    can_delete: Bool[Tensor, "batch state"]
    """True where the backspace action exists: backspace is on and the state is above its floor."""
    labels: Int[Tensor, "batch time"]
    """Action ids, 0 beyond N."""
    is_action: Bool[Tensor, "batch time"]
    """True for t < N."""
    num_actions: Int[Tensor, " batch"]


@dataclass(frozen=True)
class StateActionValues:
    """All that an objective needs of the policy: the logits' values along trajectories.

    The fields with a default are there only for the objectives that ask for them
    (`seqmatch.objectives.dispatch`).
    """

    chosen_q: Float[Tensor, "batch time"]
    """l(y_t | s_t), the logit of the label."""
    values: Float[Tensor, "batch state"]
    """V(s_t) = logsumexp of the logits, t = 0..N; the last one is the terminal state's."""
    is_action: Bool[Tensor, "batch time"]
    weights: Float[Tensor, " batch"] | None = None
    """The probability of each trajectory where the batch enumerates a law; None weighs each one
    1/batch, as a sample does."""
    next_values: Float[Tensor, "batch time"] | None = None
    """V(s_{t+1}) of a target network, without gradient; None takes those of `values`."""
    tempered_values: Float[Tensor, "batch time"] | None = None
    """beta logsumexp(l(.|s_t) / beta)."""
    backspace_q: Float[Tensor, "batch state"] | None = None
    """l(bkspc | s_t)."""
    can_delete: Bool[Tensor, "batch state"] | None = None
    """True where the backspace action exists; beside `backspace_q`."""
    is_backspace_label: Bool[Tensor, "batch time"] | None = None
    """True where y_t is backspace; beside `backspace_q`. On demonstrations: where noise was."""
    old_log_probs: Float[Tensor, "batch time"] | None = None
    """log p_old(y_t | s_t) of the policy that sampled a round, without gradient."""
    reference_log_probs: Float[Tensor, "batch time"] | None = None
    """log p_ref(y_t | s_t) of the reference policy, without gradient."""
    advantages: Float[Tensor, "batch time"] | None = None
    """What the policy step weighs actions by; of the policy's own answers, without gradient."""

    def rows(self, which: slice) -> StateActionValues:
        """Returns some of the trajectories."""
        parts: dict[str, Any] = {
            each.name: None if (part := getattr(self, each.name)) is None else part[which]
            for each in fields(self)
        }
        return StateActionValues(**parts)

    def token_nll(self) -> Float[Tensor, "batch time"]:
        """Returns -log p(y_t|s_t) = V(s_t) - l(y_t|s_t) in nats, 0 beyond the last action."""
        nll = self.values[:, :-1] - self.chosen_q
        return nll.masked_fill(self.is_action.logical_not(), 0.0)

    def mean(self, each: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Returns sum_i w_i x_i: the mean over trajectories that every loss is.

        With `weights` it is the exact expectation under an enumerated law.
        """
        return each.mean() if self.weights is None else (self.weights * each).sum()


@dataclass(frozen=True)
class LossOutput:
    """A loss and the terms it is made of, as scalars."""

    loss: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]
    """Detached numbers by their metric name."""
