"""What the Oracle page and command can train: exact divergences and objectives. Light.

A key is `exact:<divergence>` (minimise the divergence itself, by exact gradients) or the kind of an
objective with what tells its variants apart: `sequence_match:<divergence>`, `composite:jeffreys`.
Both are read from the registries, so that a new divergence or kind is here at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from seqmatch.divergences import DIVERGENCES, divergences_of
from seqmatch.errors import unknown_name
from seqmatch.objectives import OBJECTIVES, ObjectiveConfig
from seqmatch.objectives.base import Frozen

ObjectiveGroup = Literal["exact divergence", "objective"]

EXACT = "exact"


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
    return {each.key: each for each in (*_objectives(), *_exact_divergences())}


def _exact_divergences() -> Iterator[OracleObjective]:
    for name, divergence in DIVERGENCES.items():
        yield OracleObjective(
            key=f"{EXACT}:{name}",
            title=f"Exact {divergence.title}",
            group="exact divergence",
            sentence=divergence.sentence,
            divergence=name,
        )


def _objectives() -> Iterator[OracleObjective]:
    for kind, info in OBJECTIVES.items():
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
