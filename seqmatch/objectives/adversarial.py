"""Adversarial imitation: a discriminator and a policy in turn, for every divergence. Its config.

The discriminator learns h = log rho_data/rho_model; the policy maximises R(h), the reward whose
policy gradient is minus the gradient of the divergence. Signs, levels and rewards: docs/method.md,
"Adversarial imitation". The loss of the policy is `on_policy.policy_step_loss`, those of the
discriminator are in `seqmatch.discriminators`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from seqmatch.divergences import Divergence, divergences_of, get_divergence
from seqmatch.divergences.alpha_family import DEFAULT_ORDER
from seqmatch.errors import UnknownNameError
from seqmatch.objectives.base import CorruptionConfig, DivergenceOrder, Frozen, LearntBackspace
from seqmatch.objectives.on_policy import PolicyStepConfig, RoundConfig, StopOnFlag, whole_groups
from seqmatch.objectives.schedule import Discount, FinalBeta, WarmupFraction
from seqmatch.policy_gradient import FAIRL_ORIGINAL


def _list_divergences(schema: dict[str, Any]) -> None:
    """Puts the choices into the JSON schema, as the registry stands when it is asked."""
    schema["choices"] = list(divergences_of("adversarial"))


class DiscriminatorConfig(Frozen):
    """The discriminator: what it sees, what it minimises, and what keeps it from running ahead."""

    backbone: Literal["shared", "adapter"] = Field(
        "shared",
        title="Features",
        description="What it reads of a state: the policy's own hidden states, or those of a "
        "second LoRA adapter on the frozen base model.",
    )
    form: Literal["logit", "airl"] = Field(
        "logit",
        title="Form",
        description="Whether the network gives h itself, or g with h = g - log p(a|s).",
    )
    loss: Literal["cross_entropy", "variational", "bradley_terry", "bradley_terry_deviations"] = (
        Field(
            "cross_entropy",
            title="Discriminator loss",
            description="Cross entropy for every divergence, the variational loss of the chosen "
            "one, or pairs of answers: which is the demonstration?",
        )
    )
    width: int = Field(
        64, ge=4, le=4096, title="Width", description="Of the two hidden layers of its head."
    )
    learning_rate: float = Field(
        1e-3,
        gt=0.0,
        le=1.0,
        title="Discriminator learning rate",
        description="Of its own Adam; constant.",
    )
    updates: int = Field(
        1,
        ge=1,
        le=32,
        title="Updates a step",
        description="Its updates on the batch of each step of the policy.",
    )
    warmup_steps: int = Field(
        50,
        ge=0,
        le=1_000_000,
        title="Discriminator warm-up",
        json_schema_extra={"unit": "steps"},
        description="It learns alone in the last steps of the imitation warm-up, so many of them, "
        "before any reward is made of it.",
    )
    gate: float = Field(
        0.95,
        gt=0.5,
        le=1.0,
        title="Gate",
        json_schema_extra={"unit": "share"},
        description="Above this accuracy on a batch the update is left out. 1 never leaves one "
        "out.",
    )
    label_smoothing: float = Field(
        0.05,
        ge=0.0,
        lt=0.5,
        title="Label smoothing",
        json_schema_extra={"unit": "share"},
        description="Share of labels counted as the other one, on both sides; it keeps h bounded. "
        "Cross entropy only.",
    )
    gradient_penalty: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        title="Gradient penalty",
        description="Weight of (gradient norm - 1)^2 between demonstrations and rollouts, in the "
        "space of features; 10 in the code of FAIRL.",
    )
    r1_penalty: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        title="R1 penalty",
        description="Weight of half the squared gradient norm at demonstrations.",
    )
    spectral_norm: bool = Field(
        False,
        title="Spectral norm",
        description="Divide each layer by its largest singular value: h is then 1-Lipschitz in "
        "the features.",
    )
    history_share: float = Field(
        0.0,
        ge=0.0,
        le=0.9,
        title="History",
        json_schema_extra={"unit": "share"},
        description="Share of its rollouts that come from earlier rounds, so that it does not "
        "forget them; costs a forward pass over them.",
    )


class AdversarialConfig(Frozen):
    """Minimise a divergence by a discriminator and a policy in turn (arXiv 2403.12017)."""

    kind: Literal["adversarial"] = "adversarial"
    divergence: str = Field(
        "reverse_kl",
        title="Divergence",
        description="What is minimised between policy and demonstrator.",
        json_schema_extra=_list_divergences,
    )
    divergence_order: DivergenceOrder = DEFAULT_ORDER
    level: Literal["token", "trajectory", "increments"] = Field(
        "token",
        title="Level",
        description="Tell apart single actions in their states, or whole answers.",
    )
    reward: Literal["exact", "fairl_original"] = Field(
        "exact",
        title="Reward",
        description="R(h) of the divergence, or the one of FAIRL's code, which belongs to none.",
    )
    discount: Discount = 0.95
    backspace: LearntBackspace = True
    corruption: CorruptionConfig = CorruptionConfig()
    rollouts: RoundConfig = RoundConfig()
    policy_step: PolicyStepConfig = PolicyStepConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    warmup_fraction: WarmupFraction = 0.4
    final_beta: FinalBeta = 0.2
    stop_on_flag: StopOnFlag = True

    @field_validator("divergence")
    @classmethod
    def _divergence_is_registered(cls, name: str) -> str:
        try:
            reason = get_divergence(name).left_out.get("adversarial")
        except UnknownNameError as error:
            raise ValueError(str(error)) from error  # pydantic reports ValueErrors only
        if reason is not None:
            allowed = ", ".join(sorted(divergences_of("adversarial")))
            raise ValueError(f"{name!r} is not for a discriminator: {reason}; allowed: {allowed}")
        return name

    @model_validator(mode="after")
    def _has_a_meaning(self) -> AdversarialConfig:
        for is_without, reason in _without_meaning(self):
            if is_without:
                raise ValueError(reason)
        whole_groups(self.rollouts, self.policy_step)
        return self

    @property
    def reward_name(self) -> str:
        """The name of the reward function: the divergence's, or FAIRL's original one."""
        return FAIRL_ORIGINAL if self.reward == FAIRL_ORIGINAL else self.divergence

    @property
    def entry(self) -> Divergence:
        """The registered divergence."""
        return get_divergence(self.divergence, self.divergence_order)


def _without_meaning(config: AdversarialConfig) -> list[tuple[bool, str]]:
    """Combinations that nothing can be said of, each with the reason."""
    discriminator, is_whole = config.discriminator, config.level == "trajectory"
    is_pairwise = discriminator.loss.startswith("bradley_terry")
    return [
        (
            config.reward == FAIRL_ORIGINAL and config.divergence != "forward_kl",
            f"reward 'fairl_original' is -h e^h, made for forward_kl; {config.divergence!r} has "
            "its own. Choose forward_kl, or the exact reward",
        ),
        (
            config.policy_step.baseline == "grpo" and not is_whole,
            "policy_step.baseline 'grpo' divides by the deviation of the rewards of whole "
            f"answers; at the level {config.level!r} each action has a return of its own. Choose "
            "'rloo', or the level 'trajectory'",
        ),
        (
            is_pairwise and not is_whole,
            f"discriminator.loss {discriminator.loss!r} compares whole answers; the level "
            f"{config.level!r} needs h of single actions. Choose the level 'trajectory', or "
            "'cross_entropy'",
        ),
        (
            discriminator.loss == "bradley_terry_deviations" and config.divergence != "reverse_kl",
            "discriminator.loss 'bradley_terry_deviations' learns an order of answers, not a log "
            f"ratio: no R(h) of {config.divergence!r} can be made of it. Choose reverse_kl, whose "
            "reward is the score itself, or another loss",
        ),
        (
            discriminator.loss == "variational" and config.entry.second_derivative is None,
            f"discriminator.loss 'variational' has no gradient for {config.divergence!r}, whose "
            "generator has a corner; choose 'cross_entropy'",
        ),
        (
            discriminator.form == "airl" and is_whole,
            "discriminator.form 'airl' takes log p of a single action off, which is not the "
            "probability of a whole answer; choose 'logit', or the level 'token'",
        ),
        (
            discriminator.gradient_penalty > 0.0 and discriminator.r1_penalty > 0.0,
            "discriminator.gradient_penalty asks for gradients of norm 1 and r1_penalty for none; "
            "choose one of them",
        ),
    ]


def adversarial_warnings(config: AdversarialConfig) -> tuple[str, ...]:
    """Returns what a person should know of these settings before trusting the run."""
    found = []
    if config.reward == FAIRL_ORIGINAL:
        found.append(
            "the reward -h e^h of FAIRL's code is that of no divergence: with an exact "
            "discriminator it drives the policy away from the demonstrations (docs/exact.md); the "
            "exact reward of forward KL is e^h - 1"
        )
    if config.discriminator.loss == "bradley_terry_deviations":
        found.append(
            "with learnt deviations the discriminator gives an order of answers, not a log ratio; "
            "its score is the reward, and no divergence is claimed for it"
        )
    if config.divergence == "total_variation":
        found.append(
            "the reward of total variation is the sign of h: it says which side is likelier, not "
            "by how much, and does not fade as the policy comes close"
        )
    return tuple(found)
