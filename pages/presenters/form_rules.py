"""Which settings of a run come first, where the others stand, and when a setting has a meaning.

A setting is named by its path in the config; values are those of the form, which has the settings
of all objectives at once.
"""

from collections.abc import Callable, Mapping

from seqmatch.divergences import DIVERGENCES
from seqmatch.objectives import CONFIGS
from seqmatch.objectives.dispatch import in_rounds

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
    ("objective.weights", "objective.beta", "objective.scale"),
    ("objective.teacher", "objective.relative_to_start"),
    WEIGHTS,
    ("objective.divergence", "objective.divergence_order", "objective.level"),
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
REWARDS = "Rewards and the policy's step"

SECTIONS = {
    "objective": "Objective",
    "objective.warmup_fraction": SCHEDULE,
    "objective.final_beta": SCHEDULE,
    "objective.offline": SAMPLES,
    "objective.mixture_data": SAMPLES,
    "objective.mixture_model": SAMPLES,
    "objective.reward_clip": SAMPLES,
    "objective.target_decay": SAMPLES,
    "objective.stop_on_flag": REWARDS,
    "objective.reward": REWARDS,
    "objective.policy_step": REWARDS,
    "objective.discriminator": "Discriminator",
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


IN_ROUNDS = tuple(kind for kind, config in CONFIGS.items() if in_rounds(config()))  # type: ignore[arg-type]
"""The kinds of objective that are trained on rounds of fresh answers."""


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
    match values.get("objective.kind"):
        case "forward_kl_occupancy":
            return values.get("objective.weights") == "gamma"
        case "adversarial":
            return values.get("objective.level") != "trajectory"
        case _:
            return True


def _uses_alpha(values: Values) -> bool:
    is_fine_tuned = values.get("objective.teacher") == "sft"
    return not (values.get("objective.kind") == "dense_reward" and is_fine_tuned)


def _has_order(values: Values) -> bool:
    entry = DIVERGENCES.get(str(values.get("objective.divergence")))
    return entry is not None and entry.has_order


def _uses_mixture(values: Values) -> bool:
    entry = DIVERGENCES.get(str(values.get("objective.divergence")))
    return entry is not None and entry.uses_mixture


def _is_online(values: Values) -> bool:
    return not values.get("objective.offline")


def _samples(values: Values) -> bool:
    if values.get("objective.kind") in IN_ROUNDS:
        return True
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
    "objective.alpha": _uses_alpha,
    "objective.reward": _is("objective.divergence", "forward_kl"),
    "objective.discriminator.label_smoothing": _is("objective.discriminator.loss", "cross_entropy"),
    "objective.rollouts.temperature": lambda values: values.get("objective.kind") not in IN_ROUNDS,
    "objective.rollouts.buffer_size": lambda values: (
        values.get("objective.kind") not in IN_ROUNDS
        or (
            bool(values.get("objective.discriminator.history_share"))
            and values.get("objective.kind") == "adversarial"
        )
    ),
    "objective.corruption": _has_backspace,
    "objective.corruption.token_set": _is("objective.corruption.alphabet", "token_set"),
    "objective.corruption.top_k": _is("objective.corruption.alphabet", "model_top_k"),
    "parallelism": lambda values: "," in str(values.get("device")),
    "adapter.rank": _is("adapter.kind", "lora"),
    "adapter.scaling": _is("adapter.kind", "lora"),
}
"""When a setting, or a whole part of the config, has a meaning; those without a rule always do."""
