"""The registry of metrics: every number that a run may report, with its unit and its meaning.

Axis labels, tables, documentation and the reporter's check read it; a metric that is not here
cannot be reported. Log quantities are in nats.
"""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class Metric:
    """One reportable number."""

    name: str
    """`group/name`; the group is train, eval, rollout, discriminator or system."""
    title: str
    unit: str
    direction: Direction
    """Which way is better; "none" where neither is."""
    meaning: str
    """One sentence: what is plotted, and for an estimate of what kind it is."""


def _registry(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _registry(
    Metric(
        "train/loss",
        "Training loss",
        "nats per sequence",
        "lower",
        "What is minimised, on the training batch: summed over tokens, mean over sequences.",
    ),
    Metric(
        "train/bc_loss",
        "Imitation term",
        "nats per sequence",
        "lower",
        "Negative log-likelihood part of the loss on the training batch.",
    ),
    Metric(
        "train/sm_loss",
        "SequenceMatch term",
        "nats per sequence",
        "lower",
        "Minus the SequenceMatch objective on the training batch, mixture term included.",
    ),
    Metric(
        "train/weighted_nll",
        "Weighted NLL",
        "nats per sequence",
        "lower",
        "Negative log-likelihood with the weights that the forward KL of occupancies gives tokens.",
    ),
    Metric(
        "train/dft_loss",
        "DFT term",
        "nats per sequence",
        "none",
        "Negative log-likelihood with each token weighted by its own probability; also small where "
        "the policy finds the demonstrations unlikely.",
    ),
    Metric(
        "train/gem_loss",
        "GEM term",
        "nats per sequence",
        "lower",
        "Beta times the negative log-likelihood of the policy at temperature beta.",
    ),
    Metric(
        "train/forward_kl",
        "Forward-KL part",
        "nats per sequence",
        "lower",
        "Discounted negative log-likelihood: the composite's forward KL, before its weight.",
    ),
    Metric(
        "train/reverse_kl",
        "Reverse-KL part",
        "nats per sequence",
        "lower",
        "SequenceMatch loss of the reverse KL, before the composite's weight.",
    ),
    Metric(
        "train/jensen_shannon",
        "Jensen-Shannon part",
        "nats per sequence",
        "lower",
        "Half the SequenceMatch loss of Jensen-Shannon, before the composite's weight.",
    ),
    Metric(
        "train/chi_square_mixture",
        "Mixture part",
        "nats per sequence",
        "lower",
        "Twice the SequenceMatch loss of the chi-square mixture, before the composite's weight.",
    ),
    Metric(
        "train/backspace_calibration",
        "Backspace calibration",
        "nats per sequence",
        "lower",
        "Discounted sum of the KL between the probability of backspace and what the noise of the "
        "demonstrations says, before the composite's weight.",
    ),
    Metric(
        "train/data_penalty",
        "Data penalty",
        "nats per sequence",
        "none",
        "Discounted sum of d - phi(alpha d)/alpha over demonstrations; alpha/4 d^2 for chi-square, "
        "c_E in the place of 1/4 where that was changed.",
    ),
    Metric(
        "train/mixture_penalty",
        "Mixture penalty",
        "nats per sequence",
        "none",
        "Discounted sum of alpha c d^2 over replayed rollouts: the mixture term; c is 1/4 where it "
        "was not changed.",
    ),
    Metric(
        "train/terminal_penalty",
        "Terminal penalty",
        "nats per sequence",
        "none",
        "The absorbing-state part of the SequenceMatch loss.",
    ),
    Metric(
        "train/nll",
        "Training NLL",
        "nats per token",
        "lower",
        "Negative log-likelihood of the labels of the training batch, backspace labels included.",
    ),
    Metric(
        "train/beta",
        "Imitation weight",
        "",
        "none",
        "Weight beta of the imitation term; the SequenceMatch term has 1 - beta.",
    ),
    Metric("train/learning_rate", "Learning rate", "", "none", "Learning rate of this step."),
    Metric("train/grad_norm", "Gradient norm", "", "none", "Gradient norm before clipping."),
    Metric(
        "train/td_data",
        "Mean |TD|, demonstrations",
        "nats",
        "none",
        "Mean |l(a|s) - gamma V(s')| over the training demonstrations.",
    ),
    Metric(
        "train/td_rollout",
        "Mean |TD|, rollouts",
        "nats",
        "none",
        "Mean |l(a|s) - gamma V(s')| over the replayed rollouts.",
    ),
    Metric(
        "train/target_gap",
        "Target network gap",
        "nats",
        "none",
        "Mean |V(s') - V(s') of the target network| over the training demonstrations: how far the "
        "target network lags behind.",
    ),
    Metric(
        "train/clipped_data",
        "Rewards over the limit, demonstrations",
        "share of actions",
        "lower",
        "Share of the training demonstrations' actions with |alpha d| above the reward limit.",
    ),
    Metric(
        "train/clipped_rollout",
        "Rewards over the limit, rollouts",
        "share of actions",
        "lower",
        "Share of the replayed rollouts' actions with |alpha d| above the reward limit.",
    ),
    Metric(
        "train/backspace_labels",
        "Backspace labels",
        "share of actions",
        "none",
        "Share of the training demonstrations' labels that are backspace: how much noise was "
        "inserted, bursts counted in full.",
    ),
    Metric(
        "eval/nll",
        "Held-out NLL",
        "nats per token",
        "lower",
        "Exact mean negative log-likelihood of held-out answers, stop token included, "
        "in the action space with backspace where the run has it.",
    ),
    Metric(
        "eval/td",
        "Mean |TD|, held-out",
        "nats",
        "none",
        "Mean |l(a|s) - gamma V(s')| over held-out demonstrations.",
    ),
    Metric(
        "eval/value_start",
        "V at the start",
        "nats",
        "none",
        "Mean soft value logsumexp l(.|s) at the first state of held-out demonstrations.",
    ),
    Metric(
        "eval/value_end",
        "V at the end",
        "nats",
        "none",
        "Mean soft value at the terminal state of held-out demonstrations.",
    ),
    Metric(
        "eval/divergence",
        "Divergence estimate",
        "0 to 2",
        "lower",
        "2 chi-square(data || mixture) between held-out demonstrations and fresh rollouts: a "
        "variational lower bound, cross-fitted over prompts. Its critic is linear in the policy's "
        "own implied reward and, where an answer has ended, in that answer's log-likelihood.",
    ),
    Metric(
        "eval/exact_match",
        "Exact match",
        "share",
        "higher",
        "Share of fresh rollouts on held-out prompts that equal the demonstrated answer.",
    ),
    Metric(
        "rollout/backspace_rate",
        "Backspace rate",
        "share of actions",
        "none",
        "Share of actions that are backspace, in fresh rollouts on held-out prompts.",
    ),
    Metric(
        "rollout/length",
        "Rollout length",
        "tokens",
        "none",
        "Mean number of tokens that stand at the end of a fresh rollout.",
    ),
    Metric(
        "rollout/truncated",
        "Unfinished rollouts",
        "share",
        "lower",
        "Share of fresh rollouts that reached a limit before the stop token.",
    ),
    Metric(
        "rollout/age",
        "Age of replayed rollouts",
        "steps",
        "none",
        "Mean number of steps since the replayed rollouts were sampled.",
    ),
    Metric(
        "system/tokens_per_second",
        "Tokens per second",
        "tokens/s",
        "higher",
        "Input positions of demonstrations and replayed rollouts trained on, per second.",
    ),
    Metric(
        "system/steps_per_second",
        "Steps per second",
        "steps/s",
        "higher",
        "Optimiser steps per second, sampling and evaluation included.",
    ),
    Metric(
        "system/rollout_seconds",
        "Sampling time",
        "s",
        "lower",
        "Seconds spent on sampling rollouts since the last report.",
    ),
    Metric(
        "system/skipped_steps",
        "Skipped steps",
        "steps",
        "lower",
        "Optimiser steps skipped so far because a gradient was not finite.",
    ),
    Metric("system/memory", "Memory", "MB", "lower", "Peak resident memory of the trainer."),
)
