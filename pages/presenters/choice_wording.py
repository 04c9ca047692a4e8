"""The choices of settings as people read them: a name, and one sentence for the one that is taken.

The config and the command line have short names for them; a test holds that none is missing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One value that a setting can have."""

    title: str
    sentence: str


CHOICES: Mapping[str, Mapping[str, Choice]] = {
    "objective.weights": {
        "gamma": Choice(
            "Discounted",
            "Token t weighs gamma^t: exact for discounted occupancy measures.",
        ),
        "count": Choice(
            "Count",
            "⚠ Token t of N weighs N - t, the sum without a discount: answers become longer than "
            "demonstrated.",
        ),
        "count_norm": Choice(
            "Count, normalised",
            "⚠ Token t of N weighs (N - t)/N: answers become longer than demonstrated.",
        ),
        "paper": Choice(
            "As printed in the paper",
            "⚠ The last token of every answer weighs 0: the policy is never taught to stop.",
        ),
    },
    "objective.estimator": {
        "telescoped": Choice("Telescoped", "Discounted negative log-likelihood plus penalties."),
        "paper": Choice(
            "Equation 4 of the paper",
            "With both value sums; the same as telescoped on complete answers from one start.",
        ),
    },
    "objective.corruption.alphabet": {
        "vocabulary": Choice(
            "Whole vocabulary", "Wrong tokens are drawn from the whole vocabulary, each as likely."
        ),
        "token_set": Choice(
            "Tokens of a text", "Wrong tokens are drawn from the tokens of the text given below."
        ),
        "model_top_k": Choice(
            "The model's own mistakes",
            "Wrong tokens are those that the model finds likeliest while it trains; costs a "
            "forward pass a step.",
        ),
    },
    "adapter.kind": {
        "lora": Choice("LoRA adapter", "A low-rank adapter on all linear layers is trained."),
        "full": Choice("All weights", "Every weight of the model is trained."),
    },
    "data.too_long": {
        "drop": Choice("Leave out", "Rows over the limit are left out, and their number reported."),
        "cut": Choice(
            "Cut at the limit",
            "The episode ends at the limit; its stop is then forced, not demonstrated.",
        ),
        "stop": Choice(
            "Refuse to train", "A single row over the limit keeps the run from starting."
        ),
    },
    "optimization.schedule": {
        "constant": Choice("Constant", "After the warm-up the learning rate stays at its peak."),
        "linear": Choice("Linear", "After the warm-up the learning rate falls linearly to 0."),
        "cosine": Choice("Cosine", "After the warm-up the learning rate falls to 0 as a cosine."),
    },
}
