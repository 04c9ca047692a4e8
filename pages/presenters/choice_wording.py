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
    "objective.level": {
        "token": Choice(
            "Single actions",
            "Matches how often each action is taken in each state, early ones weighing more.",
        ),
        "trajectory": Choice(
            "Whole answers", "Matches the probabilities of whole answers; one reward an answer."
        ),
        "increments": Choice(
            "Whole answers, step by step",
            "Matches the probabilities of whole answers; each action is paid what it adds to R(h), "
            "so that a good beginning is not blamed for a bad end.",
        ),
    },
    "objective.reward": {
        "exact": Choice(
            "Of the divergence", "R(h) whose policy gradient is minus the divergence's gradient."
        ),
        "fairl_original": Choice(
            "FAIRL's code",
            "⚠ -h e^h: belongs to no divergence, and drives the policy away from the "
            "demonstrations where h is exact. To reproduce that code only.",
        ),
    },
    "objective.policy_step.baseline": {
        "rloo": Choice(
            "Leave one out (RLOO)", "The mean of the other answers to the prompt: unbiased."
        ),
        "grpo": Choice(
            "Group normalised (GRPO)",
            "That, divided by the deviation of the prompt's rewards: prompts whose answers are "
            "nearly equal count as much as others. Whole answers only.",
        ),
        "none": Choice("None", "Nothing is taken off: unbiased, and much noisier."),
    },
    "objective.discriminator.backbone": {
        "shared": Choice(
            "The policy's states",
            "Costs a few percent of a step: the policy's own pass has computed them. They move "
            "with the policy.",
        ),
        "adapter": Choice(
            "A second adapter",
            "A LoRA of its own on the frozen base model: features that stand still. Costs one "
            "more pass forward and back; needs the policy to be trained as a LoRA.",
        ),
    },
    "objective.discriminator.form": {
        "logit": Choice("Free", "The network gives h."),
        "airl": Choice(
            "AIRL",
            "h = g - log p(a|s): the network need not learn what the policy's probabilities are. "
            "Not at the level of whole answers.",
        ),
    },
    "objective.discriminator.loss": {
        "cross_entropy": Choice(
            "Cross entropy", "The stable choice: its minimum is h = log ratio for each divergence."
        ),
        "variational": Choice(
            "Variational, of the divergence",
            "The lower bound of the chosen divergence itself; the same minimum, less stable.",
        ),
        "bradley_terry": Choice(
            "Pairs (Bradley-Terry)",
            "Which of two answers is the demonstration? h up to a constant, which is estimated. "
            "Whole answers only.",
        ),
        "bradley_terry_deviations": Choice(
            "Pairs with learnt deviations",
            "Each answer also has a deviation: the scores order answers and are no log ratio. "
            "Whole answers and reverse KL only.",
        ),
    },
    "objective.teacher": {
        "sft": Choice("Supervised fine-tuning", "Its logits, read as Q-values, give the reward."),
        "sequence_match": Choice(
            "SequenceMatch", "Without samples; its logits are trained to be values."
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
        "lora": Choice(
            "LoRA adapter",
            "A low-rank adapter on all linear layers is trained. On models below about 10 million "
            "weights it is not faster; on larger ones it saves the gradient of the weights and the "
            "optimiser's memory.",
        ),
        "full": Choice(
            "All weights",
            "Every weight of the model is trained. On models below about 10 million weights a step "
            "takes no longer than with LoRA.",
        ),
    },
    "parallelism": {
        "replicate": Choice(
            "A whole copy on each", "Each device holds all weights; their gradients are added up."
        ),
        "shard": Choice(
            "Divided among them",
            "Weights, gradients and the optimiser are divided (FSDP2): for full fine-tuning that "
            "does not fit one device; slower.",
        ),
    },
    "precision": {
        "auto": Choice(
            "What suits the device",
            "bfloat16 on a GPU that has it, float32 on a CPU.",
        ),
        "float32": Choice("Single (float32)", "Everything in the type of the weights."),
        "bfloat16": Choice(
            "Half (bfloat16)",
            "Matrix products of training are made of rounded numbers; weights, gradients, sums, "
            "decoding and evaluation stay in float32. On a CPU without AMX 3 to 13 times slower.",
        ),
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
