"""The dense reward in a policy's own logits: its config, and what it needs of a round.

Imitation first: fine-tuning, or SequenceMatch without samples. The policy at its end is held, and
its logits are Q-values: they imply a reward for every action, without a discriminator, on which the
policy step of adversarial imitation then goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from seqmatch.objectives.base import CorruptionConfig, Frozen, LearntBackspace
from seqmatch.objectives.on_policy import PolicyStepConfig, RoundConfig, StopOnFlag, whole_groups
from seqmatch.objectives.schedule import Alpha, Discount, FinalBeta, WarmupFraction
from seqmatch.objectives.sequence_match import SequenceMatchConfig
from seqmatch.objectives.temporal_difference import temporal_differences
from seqmatch.policy_gradient import discounted_returns
from seqmatch.types import StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class DenseRewardConfig(Frozen):
    """Reinforce what an imitation policy's own logits reward."""

    kind: Literal["dense_reward"] = "dense_reward"
    teacher: Literal["sft", "sequence_match"] = Field(
        "sft",
        title="Teacher",
        description="The imitation that the reward is read off: supervised fine-tuning, or "
        "SequenceMatch without samples.",
    )
    relative_to_start: bool = Field(
        True,
        title="Relative to the start",
        description="Take off the reward that the policy before training implies, so that only "
        "what imitation has learned is rewarded.",
    )
    alpha: Alpha = 0.01
    discount: Discount = 0.998
    backspace: LearntBackspace = True
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RoundConfig = RoundConfig()
    policy_step: PolicyStepConfig = PolicyStepConfig()
    warmup_fraction: WarmupFraction = 0.6
    final_beta: FinalBeta = 0.2
    stop_on_flag: StopOnFlag = True

    @model_validator(mode="after")
    def _has_a_meaning(self) -> DenseRewardConfig:
        if self.policy_step.baseline == "grpo":
            raise ValueError(
                "policy_step.baseline 'grpo' divides by the deviation of the rewards of whole "
                "answers; a dense reward gives each action a return of its own. Choose 'rloo'"
            )
        whole_groups(self.rollouts, self.policy_step)
        return self


def teacher_objective(config: DenseRewardConfig) -> SequenceMatchConfig | None:
    """Returns SequenceMatch as the teacher trains with it; None where it is fine-tuning."""
    if config.teacher == "sft":
        return None
    return SequenceMatchConfig(
        alpha=config.alpha, discount=config.discount, backspace=config.backspace, offline=True
    )


def implied_returns(values: StateActionValues, discount: float) -> Float[Tensor, "batch time"]:
    """Computes what follows from each action under the reward that a policy's logits imply.

        r_t = l(a_t|s_t) - gamma V(s_{t+1}),   and (1 - gamma) V(s_N) at every visit of the end
        G_k = V(s_k) + sum_{j>=k} gamma^{j-k} log p(a_j|s_j)

    The second line follows by telescoping (D3): up to the baseline V(s_k) it is the discounted
    log-likelihood of what follows, so no offset of the logits matters to the policy gradient.

    Args:
        values: Of the policy that rewards, along somebody's answers.
        discount: gamma, in (0, 1).

    Source: inverse soft Bellman operator of Cundy & Ermon (arXiv 2306.05426); as a reward for
    fine-tuned policies: arXiv 2510.02493.
    """
    along = temporal_differences(values, discount)
    return discounted_returns(
        along.td, values.is_action, discount, (1.0 - discount) * along.end_value
    )
