"""What objectives share that train a policy on its own fresh answers: settings and the loss.

A round of answers is sampled, and its answers are used in the following steps, each step a few
prompts with all their answers. What an action is worth, its advantage, has no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from seqmatch.errors import ConfigError
from seqmatch.objectives.base import AnswersPerRound, Frozen, LongestAnswer
from seqmatch.policy_gradient import kl_to_reference, ppo_surrogate, sampled_entropy
from seqmatch.types import LossOutput, StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


StopOnFlag = Annotated[
    bool,
    Field(
        title="Stop at a flag",
        description="Save and stop where the discriminator has won or given up, the policy has "
        "collapsed, or length is exploited. A flag is raised once: a resumed run goes on.",
    ),
]


class RoundConfig(Frozen):
    """How rounds of answers are sampled; always at temperature 1, from the policy as it is."""

    every: int = Field(
        4,
        ge=1,
        le=1000,
        title="Sample every",
        json_schema_extra={"unit": "steps"},
        description="Steps that use one round of answers. With 1 every answer is fresh; with more "
        "the policy has moved a little since, which the clipped ratio allows for.",
    )
    batch_size: AnswersPerRound = 256
    buffer_size: int = Field(
        1024,
        ge=1,
        le=1_000_000,
        title="Replay buffer",
        description="How many rollouts of earlier rounds are kept for the discriminator.",
    )
    max_new_tokens: LongestAnswer = 64

    @property
    def temperature(self) -> float:
        """1: the gradient is that of the policy that is trained, not of a colder one."""
        return 1.0


class PolicyStepConfig(Frozen):
    """How rewards become a step of the policy."""

    baseline: Literal["rloo", "grpo", "none"] = Field(
        "rloo",
        title="Baseline",
        description="What is taken off the reward of an answer: the mean of the other answers to "
        "its prompt, that and the scale of the prompt's rewards, or nothing.",
    )
    answers_per_prompt: int = Field(
        4,
        ge=1,
        le=256,
        title="Answers per prompt",
        description="So many answers are sampled to each prompt; the baselines need at least 2.",
    )
    whiten: bool = Field(
        False,
        title="Whiten advantages",
        description="Advantages of a batch get mean 0 and deviation 1, so that the step does not "
        "depend on the scale of the rewards. Without, it fades as the discriminator finds less to "
        "tell apart; with it, what is left to push the policy then is noise.",
    )
    clip: float = Field(
        0.2,
        gt=0.0,
        lt=1.0,
        title="PPO clip",
        description="How far the ratio of new to sampling probability may move before an action "
        "has no gradient. Where every step has a fresh round the ratio is 1: REINFORCE.",
    )
    kl_weight: float = Field(
        0.05,
        ge=0.0,
        le=100.0,
        title="KL to the reference",
        description="Weight of the KL to the policy at the end of the imitation warm-up. 0 leaves "
        "it out.",
    )

    @model_validator(mode="after")
    def _baseline_has_other_answers(self) -> PolicyStepConfig:
        if self.baseline != "none" and self.answers_per_prompt < 2:
            raise ValueError(
                f"answers_per_prompt is {self.answers_per_prompt}, but the baseline "
                f"{self.baseline!r} is made of the other answers to the prompt; take at least 2, "
                "or the baseline 'none'"
            )
        return self


def whole_groups(rollouts: RoundConfig, step: PolicyStepConfig) -> None:
    """Checks that a round is made of whole prompts.

    Raises:
        ValueError: The round's size is no multiple of the answers to a prompt.
    """
    if rollouts.batch_size % step.answers_per_prompt:
        raise ValueError(
            f"rollouts.batch_size is {rollouts.batch_size}, which is no multiple of "
            f"policy_step.answers_per_prompt, {step.answers_per_prompt}; a round is made of whole "
            "prompts with all their answers"
        )


def policy_step_loss(
    rollouts: StateActionValues | None, settings: PolicyStepConfig, discount: float
) -> LossOutput:
    """Computes the loss of a policy step on a round's answers.

        L = L_PPO(advantages) + kl_weight * k3,   k3 = sum_t e^{d_t} - d_t - 1

    Args:
        rollouts: Values along the policy's own answers, with `old_log_probs` and `advantages`, and
            `reference_log_probs` where the KL has a weight.
        settings: Clip and weight of the KL.
        discount: gamma of the weights gamma^t of the actions; 1 for laws of whole answers.

    Returns:
        The loss; its value means nothing, its gradient is the policy gradient's. Terms:
        `train/surrogate`, `train/policy_entropy`, `train/clipped_ratios`, and `train/kl_reference`
        where there is a reference.

    Raises:
        ConfigError: There are no rollouts, or nothing says what their actions are worth.

    Source: docs/method.md, "Adversarial imitation"; `seqmatch.policy_gradient`.
    """
    if rollouts is None or rollouts.advantages is None or rollouts.old_log_probs is None:
        raise ConfigError(
            "the policy step needs the policy's own answers with advantages and the "
            "log-probabilities of the policy that sampled them"
        )
    old, advantages = rollouts.old_log_probs, rollouts.advantages
    surrogate = ppo_surrogate(rollouts, old, advantages, settings.clip, discount)
    loss, terms = surrogate, {"train/surrogate": surrogate}
    if rollouts.reference_log_probs is not None:
        divergence = kl_to_reference(rollouts, rollouts.reference_log_probs)
        loss = loss + settings.kl_weight * divergence
        terms["train/kl_reference"] = divergence
    elif settings.kl_weight:
        raise ConfigError(
            "the KL to the reference has a weight, and there are no log-probabilities of it"
        )
    terms["train/policy_entropy"] = sampled_entropy(rollouts)
    terms["train/clipped_ratios"] = _share_clipped(rollouts, old, settings.clip)
    return LossOutput(loss, {name: value.detach() for name, value in terms.items()})


def _share_clipped(
    rollouts: StateActionValues, old: Float[Tensor, "batch time"], clip: float
) -> Float[Tensor, ""]:
    """The share of actions whose ratio is beyond the clip."""
    log_ratio = (-rollouts.token_nll() - old).masked_fill(~rollouts.is_action, 0.0)
    beyond = ((log_ratio.expm1().abs() > clip).sum(dim=1)).to(log_ratio.dtype)
    lengths = rollouts.is_action.sum(dim=1).to(log_ratio.dtype)
    return rollouts.mean(beyond) / rollouts.mean(lengths)
