"""What the Oracle page and command can train: exact divergences and objectives. Light.

A key is `exact:<divergence>` (minimise the divergence itself, by exact gradients), the kind of an
objective with what tells its variants apart (`sequence_match:<divergence>`, `composite:jeffreys`),
or `adversarial:<divergence>:<level>` (an exact discriminator and a policy in turn). All are read
from the registries, so that a new divergence or kind is here at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from seqmatch.divergences import DIVERGENCES, divergences_of
from seqmatch.errors import unknown_name
from seqmatch.objectives import OBJECTIVES, ObjectiveConfig
from seqmatch.objectives.base import Frozen
from seqmatch.objectives.dispatch import in_rounds
from seqmatch.policy_gradient import FAIRL_ORIGINAL

ObjectiveGroup = Literal["exact divergence", "objective", "adversarial"]
AdversarialLevel = Literal["token", "trajectory"]
"""What a discriminator tells apart: state-action pairs, or whole answers."""

EXACT = "exact"
ADVERSARIAL = "adversarial"


@dataclass(frozen=True)
class AdversarialChoice:
    """The reward of an adversarial objective, and what it should lower."""

    reward: str
    """A divergence, or `policy_gradient.FAIRL_ORIGINAL`."""
    level: AdversarialLevel
    divergence: str
    """The divergence that is reported as its own."""


@dataclass(frozen=True)
class OracleObjective:
    """One thing that a policy can be trained on in a small language."""

    key: str
    title: str
    group: ObjectiveGroup
    sentence: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For an objective: the settings of its config that make it this variant, `kind` included."""
    divergence: str = ""
    """For an exact divergence: its name."""
    adversarial: AdversarialChoice | None = None
    """For an adversarial objective: what the policy is rewarded for."""
    uses_alpha: bool = False
    """Whether the entropy weight changes what is minimised."""


@dataclass(frozen=True)
class _Variant:
    """One setting of a kind that the Oracle offers by name."""

    suffix: str
    title: str
    settings: Mapping[str, Any]


def get_oracle_objective(key: str) -> OracleObjective:
    """Returns what a key names.

    Raises:
        UnknownNameError: Nothing has this key; the message lists those that exist.
    """
    if key not in ORACLE_OBJECTIVES:
        raise unknown_name("objective", key, ORACLE_OBJECTIVES)
    return ORACLE_OBJECTIVES[key]


def oracle_objectives() -> dict[str, OracleObjective]:
    """Returns everything that can be trained, by key, as the registries stand now."""
    entries = (*_objectives(), *_exact_divergences(), *_adversarial())
    return {each.key: each for each in entries}


def _exact_divergences() -> Iterator[OracleObjective]:
    for name, divergence in DIVERGENCES.items():
        yield OracleObjective(
            key=f"{EXACT}:{name}",
            title=f"Exact {divergence.title}",
            group="exact divergence",
            sentence=divergence.sentence,
            divergence=name,
        )


def _adversarial() -> Iterator[OracleObjective]:
    for name, divergence in divergences_of("adversarial").items():
        known_as = f" ({KNOWN_AS[name]})" if name in KNOWN_AS else ""
        title = f"Adversarial {divergence.title}{known_as}"
        yield from _both_levels(name, title, divergence.sentence, name)
    title = "Adversarial FAIRL with its original reward"
    yield from _both_levels(FAIRL_ORIGINAL, title, _FAIRL_ORIGINAL_SENTENCE, "forward_kl")


def _both_levels(
    reward: str, title: str, sentence: str, divergence: str
) -> Iterator[OracleObjective]:
    levels: tuple[AdversarialLevel, ...] = get_args(AdversarialLevel)
    for level in levels:
        yield OracleObjective(
            key=f"{ADVERSARIAL}:{reward}:{level}",
            title=f"{title}, {_LEVEL_WORDS[level]}",
            group="adversarial",
            sentence=sentence,
            adversarial=AdversarialChoice(reward, level, divergence),
        )


def _objectives() -> Iterator[OracleObjective]:
    for kind, info in OBJECTIVES.items():
        if in_rounds(_config_class(kind)()):  # type: ignore[arg-type]
            continue  # trained on samples; what is exact of them has keys of its own
        for variant in _variants(kind):
            yield OracleObjective(
                key=f"{kind}:{variant.suffix}" if variant.suffix else kind,
                title=f"{info.title}, {variant.title}" if variant.title else info.title,
                group="objective",
                sentence=info.sentence,
                settings={"kind": kind, **variant.settings},
                uses_alpha="alpha" in _config_class(kind).model_fields,
            )


def _config_class(kind: str) -> type[Frozen]:
    """The member of the union with this `kind`."""
    members: tuple[type[Frozen], ...] = get_args(get_args(ObjectiveConfig)[0])
    return next(each for each in members if each.model_fields["kind"].default == kind)


def _variants(kind: str) -> tuple[_Variant, ...]:
    if kind == "sequence_match":
        return tuple(
            _Variant(name, divergence.title, {"divergence": name})
            for name, divergence in divergences_of("sequence_match").items()
        )
    return _VARIANTS.get(kind, (_Variant("", "", {}),))


_VARIANTS: Mapping[str, tuple[_Variant, ...]] = {
    "forward_kl_occupancy": tuple(
        _Variant(weights, f"weights {weights}", {"weights": weights})
        for weights in ("gamma", "count", "count_norm", "paper")
    ),
    "composite": (_Variant("jeffreys", "Jeffreys (1, 1)", {"forward_kl": 1.0, "reverse_kl": 1.0}),),
}
"""Kinds that are not here are offered once, with their default settings."""

KNOWN_AS: Mapping[str, str] = {
    "jensen_shannon": "GAIL",
    "reverse_kl": "AIRL",
    "forward_kl": "FAIRL, exact",
}
"""The methods of adversarial imitation that minimise it."""
_LEVEL_WORDS: Mapping[AdversarialLevel, str] = {
    "token": "token by token",
    "trajectory": "whole answers",
}
_FAIRL_ORIGINAL_SENTENCE = (
    "The reward -h e^h of FAIRL's code, which is not forward KL's: with an exact discriminator it "
    "drives the policy away from the data."
)

ORACLE_OBJECTIVES: Mapping[str, OracleObjective] = oracle_objectives()

DEFAULT_OBJECTIVES: tuple[str, ...] = (
    "sft",
    f"{EXACT}:forward_kl",
    f"{EXACT}:reverse_kl",
    f"{EXACT}:jensen_shannon",
    "sequence_match:chi_square_mixture",
    "sequence_match:reverse_kl",
)
"""Six that show the difference between covering and seeking, and what a small alpha does to it."""
