"""What is measured on held-out demonstrations and fresh rollouts, and of the machine."""

from seqmatch.metrics.record import Metric

EVALUATION: tuple[Metric, ...] = (
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
