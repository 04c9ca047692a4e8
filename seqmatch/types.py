"""The frozen value objects that cross module borders. Light: torch is imported for types only.

Axes: `batch` sequences, `time` actions (index t = 0..N-1), `state` visited states (t = 0..N, the
last one without an action), `slot` input positions of the single pass, `vocab` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
    attends: Bool[Tensor, "batch slot slot"] | None
    """True where the row's slot sees the column's slot; None means plain causal attention."""
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
    """All that an objective needs of the policy: the logits' values along trajectories."""

    chosen_q: Float[Tensor, "batch time"]
    """l(y_t | s_t), the logit of the label."""
    values: Float[Tensor, "batch state"]
    """V(s_t) = logsumexp of the logits, t = 0..N; the last one is the terminal state's."""
    is_action: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class LossOutput:
    """A loss and the terms it is made of, as scalars."""

    loss: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]
    """Detached numbers by their metric name."""
