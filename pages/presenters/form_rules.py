"""Which settings of a run come first, where the others stand, and when a setting has a meaning.

A setting is named by its path in the config; values are those of the form, which has the settings
of all objectives at once.
"""

from collections.abc import Callable, Mapping

from seqmatch.divergences import DIVERGENCES

Value = str | int | float | bool | None
Values = Mapping[str, Value]

WEIGHTS = (
    "objective.forward_kl",
    "objective.reverse_kl",
    "objective.jensen_shannon",
    "objective.chi_square_mixture",
    "objective.backspace_calibration",
)
"""The weights of the composite objective."""

OBJECTIVE_GROUPS = (
    ("objective.weights", "objective.beta"),
    WEIGHTS,
    ("objective.divergence", "objective.divergence_order"),
    ("objective.backspace",),
)
"""What says which member of its family an objective is, row by row below the objective's card."""

BASIC = (
    "name",
    "optimization.num_steps",
    "optimization.batch_size",
    "optimization.learning_rate",
    *(path for group in OBJECTIVE_GROUPS for path in group),
)
"""What a person should look at before a first run; everything else is folded under Advanced."""

SCHEDULE = "Imitation schedule"
SAMPLES = "Mixture and stabilisers"

SECTIONS = {
    "objective": "Objective",
    "objective.warmup_fraction": SCHEDULE,
    "objective.final_beta": SCHEDULE,
    "objective.offline": SAMPLES,
    "objective.mixture_data": SAMPLES,
    "objective.mixture_model": SAMPLES,
    "objective.reward_clip": SAMPLES,
    "objective.target_decay": SAMPLES,
    "objective.corruption": "Noise",
    "objective.rollouts": "Rollouts",
    "adapter": "Trained weights",
    "data": "Data",
    "optimization": "Optimisation",
    "evaluation": "Evaluation",
    "checkpoints": "Checkpoints",
    "": "Run",
}
"""The heading of a setting, or else of the part of the config that it belongs to."""


def section_of(path: str) -> str:
    """Returns the heading that a setting stands under."""
    return SECTIONS.get(path, SECTIONS.get(path.rpartition(".")[0], "Other"))


def has_meaning(path: str, values: Values) -> bool:
    """Returns True where a setting changes anything beside these values of the others.

    Whether the chosen objective has the setting at all is not asked here.
    """
    rules = (rule for prefix, rule in RULES.items() if path == prefix or _is_below(path, prefix))
    return all(rule(values) for rule in rules)


def _is_below(path: str, prefix: str) -> bool:
    return path.startswith(f"{prefix}.")


def _has_backspace(values: Values) -> bool:
    return values.get("objective.backspace") is True


def _is(path: str, *wanted: Value) -> Callable[[Values], bool]:
    return lambda values: values.get(path) in wanted


def _is_discounted(values: Values) -> bool:
    is_weighted = values.get("objective.kind") == "forward_kl_occupancy"
    return not is_weighted or values.get("objective.weights") == "gamma"


def _has_order(values: Values) -> bool:
    entry = DIVERGENCES.get(str(values.get("objective.divergence")))
    return entry is not None and entry.has_order


def _uses_mixture(values: Values) -> bool:
    entry = DIVERGENCES.get(str(values.get("objective.divergence")))
    return entry is not None and entry.uses_mixture


def _is_online(values: Values) -> bool:
    return not values.get("objective.offline")


def _samples(values: Values) -> bool:
    if values.get("objective.kind") == "composite":
        return bool(values.get("objective.chi_square_mixture"))
    has_mixture = _uses_mixture(values) and values.get("objective.mixture_model") != 0
    return _is_online(values) and (has_mixture or values.get("objective.estimator") == "paper")


RULES: Mapping[str, Callable[[Values], bool]] = {
    "objective.discount": _is_discounted,
    "objective.divergence_order": _has_order,
    "objective.mixture_data": _uses_mixture,
    "objective.mixture_model": lambda values: _uses_mixture(values) and _is_online(values),
    "objective.estimator": _is_online,
    "objective.rollouts": _samples,
    "objective.corruption": _has_backspace,
    "objective.corruption.token_set": _is("objective.corruption.alphabet", "token_set"),
    "objective.corruption.top_k": _is("objective.corruption.alphabet", "model_top_k"),
    "adapter.rank": _is("adapter.kind", "lora"),
    "adapter.scaling": _is("adapter.kind", "lora"),
}
"""When a setting, or a whole part of the config, has a meaning; those without a rule always do."""
