"""An exact experiment as the lane would stream it, with numbers that are easy to check."""

import math
from collections.abc import Sequence

from seqmatch.exact.results import (
    OracleAnswer,
    OracleLanguage,
    OraclePiece,
    OracleRequest,
    OracleRun,
)

HOSTILE = "<img src=x onerror=alert(1)>"
FORWARD = "exact:forward_kl"
REVERSE = "exact:reverse_kl"
MATCHING = "sequence_match:reverse_kl"


def language(
    probabilities: Sequence[float] = (0.6, 0.3, 0.04, 0.03, 0.03), **changes: object
) -> OracleLanguage:
    """A language of two modes; the second answer is hostile text."""
    texts = ["ok", HOSTILE, *(f"x{place}" for place in range(len(probabilities) - 2))]
    values = {
        "name": "two_modes",
        "title": "Two modes",
        "sentence": "Two answers.",
        "policy": "by_position",
        "backspace": False,
        "noise_rate": 0.0,
        "discount": 0.9,
        "answers": [
            OracleAnswer(text=text, probability=probability)
            for text, probability in zip(texts, probabilities, strict=True)
        ],
        "measured": ["forward_kl", "reverse_kl"],
        "level": "answers",
    }
    return OracleLanguage.model_validate(values | changes)


def run(objective: str, seed: int, law: Sequence[float], **changes: object) -> OracleRun:
    """One run; its divergences are what the test is not about unless it says so."""
    values = {
        "objective": objective,
        "seed": seed,
        "law": list(law),
        "divergences": {"forward_kl": 0.5 + seed, "reverse_kl": 0.25},
        "loss": 0.5,
        "loss_match": 3e-14,
        "num_iterations": 12,
        "grad_norm": 1e-9,
        "is_converged": True,
        "off_data_probability": 0.0,
    }
    return OracleRun.model_validate(values | changes)


COVERING = (0.4, 0.2, 0.15, 0.15, 0.1)
SEEKING = (0.9, 0.01, 0.03, 0.03, 0.03)
OTHER_MODE = (0.01, 0.9, 0.03, 0.03, 0.03)


def pieces() -> list[OraclePiece]:
    """Forward KL covers both modes in both seeds; reverse KL takes another one in each."""
    runs = [
        run(FORWARD, 0, COVERING),
        run(FORWARD, 1, COVERING),
        run(REVERSE, 0, SEEKING, divergences={"forward_kl": math.inf, "reverse_kl": 0.1}),
        run(REVERSE, 1, OTHER_MODE),
    ]
    return [
        OraclePiece(kind="language", language=language()),
        *(OraclePiece(kind="run", run=each) for each in runs),
        OraclePiece(kind="note", text=f"{REVERSE} is not trained: {HOSTILE}"),
        OraclePiece(kind="progress", done=4, total=6, text="SequenceMatch, seed 0"),
    ]


def request(**changes: object) -> OracleRequest:
    """What these pieces answer."""
    values = {"objectives": [FORWARD, REVERSE, MATCHING], "seeds": [0, 1]}
    return OracleRequest.model_validate(values | changes)
