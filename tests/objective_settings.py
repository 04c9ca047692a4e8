"""One config of each kind of objective, with settings under which every part of it has a say."""

from collections.abc import Mapping
from typing import Any

from seqmatch.objectives import CONFIGS

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "forward_kl_occupancy": {"weights": "gamma", "discount": 0.9},
    "gem": {"beta": 0.6},
    "sequence_match": {"alpha": 0.1, "discount": 0.9, "warmup_fraction": 0.0},
    "composite": {
        "forward_kl": 0.5,
        "reverse_kl": 0.25,
        "jensen_shannon": 2.0,
        "chi_square_mixture": 0.75,
        "backspace_calibration": 1.5,
        "alpha": 0.1,
        "discount": 0.9,
        "warmup_fraction": 0.0,
    },
    "adversarial": {
        "discount": 0.9,
        "warmup_fraction": 0.0,
        "policy_step": {"answers_per_prompt": 2, "kl_weight": 0.5},
    },
    "spin": {"backspace": False, "scale": 0.5, "warmup_fraction": 0.0},
    "dense_reward": {
        "alpha": 0.1,
        "discount": 0.9,
        "warmup_fraction": 0.0,
        "policy_step": {"answers_per_prompt": 2, "kl_weight": 0.5},
    },
}

OBJECTIVE_SETTINGS: dict[str, dict[str, Any]] = {
    kind: {"kind": kind, "backspace": True, **SETTINGS.get(kind, {})} for kind in CONFIGS
}
"""By kind, as a run's config holds them; what is absent keeps its default."""
