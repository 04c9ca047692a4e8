"""The charts of a run: which metrics share an axis, and what to look for."""

from dataclasses import dataclass

from seqmatch.metrics.time_shares import TIME_SHARES


@dataclass(frozen=True)
class Chart:
    """One chart: metrics that share an axis."""

    key: str
    title: str
    metrics: tuple[str, ...]
    hint: str
    """What to look for, in one sentence."""
    is_whole: bool = False
    """Whether the metrics are the parts of a whole: stacked, and drawn for one run alone."""


CHARTS: tuple[Chart, ...] = (
    Chart(
        "heldout_nll",
        "Held-out NLL",
        ("eval/nll",),
        "It falls while the policy learns to generalise, and rises again when it overfits.",
    ),
    Chart(
        "exact_match",
        "Exact match",
        ("eval/exact_match",),
        "Fit for tasks with one right answer; elsewhere it stays near 0.",
    ),
    Chart(
        "divergence",
        "Divergence estimate",
        ("eval/divergence",),
        "Near 0 the critic cannot tell demonstrations and rollouts apart.",
    ),
    Chart(
        "bounds",
        "Lower bounds on divergences",
        (
            "eval/bound_reverse_kl",
            "eval/bound_forward_kl",
            "eval/bound_jensen_shannon",
            "eval/bound_chi_square_mixture",
        ),
        "Between whole answers, by one probe for all runs on a base model: lower is nearer to the "
        "demonstrations. The true value may be larger; a bound at or below 0 says nothing.",
    ),
    Chart(
        "told_apart",
        "Told apart",
        ("eval/probe_auc", "eval/leak_auc", "discriminator/held_out_auc", "discriminator/auc"),
        "At 50% answers cannot be told from demonstrations; an AUC of length and white space as "
        "high as the probe's means that these alone give the answers away.",
    ),
    Chart(
        "backspace",
        "Backspace rate",
        ("rollout/backspace_rate",),
        "0 means that the policy never takes anything back.",
    ),
    Chart(
        "length",
        "Rollout length",
        ("rollout/length",),
        "A drift away from the demonstrations' length is a leak that a critic can win by.",
    ),
    Chart(
        "objective",
        "Terms of the objective",
        ("train/loss", "train/bc_loss", "train/sm_loss"),
        "What is minimised and its parts; after the warm-up the weight moves from imitation to the "
        "objective's own term.",
    ),
    Chart(
        "penalties",
        "Penalties",
        ("train/data_penalty", "train/mixture_penalty", "train/terminal_penalty"),
        "How far the implied reward strays on demonstrations, on rollouts and after the end.",
    ),
    Chart(
        "td",
        "Mean |temporal difference|",
        ("train/td_data", "train/td_rollout", "eval/td"),
        "Smaller means a smoother implied reward; growth without end is a sign of divergence.",
    ),
    Chart(
        "clipped",
        "Rewards over the limit",
        ("train/clipped_data", "train/clipped_rollout"),
        "Many of them mean that the limit shapes the loss more than the divergence does.",
    ),
    Chart(
        "target",
        "Target network gap",
        ("train/target_gap",),
        "It should settle; a gap that grows means that the values move faster than their average.",
    ),
    Chart(
        "values",
        "Soft value V",
        ("eval/value_start", "eval/value_end"),
        "V at the first and at the last state of held-out demonstrations.",
    ),
    Chart(
        "discriminator_loss",
        "Discriminator loss",
        ("discriminator/loss",),
        "2 log 2 is 1.39; towards 0 it has won and its reward says little.",
    ),
    Chart(
        "discriminator_accuracy",
        "Accuracy of the discriminator",
        ("discriminator/accuracy_data", "discriminator/accuracy_rollouts"),
        "Both near 50% where policy and demonstrations are alike; one high and one low mean that "
        "it calls most answers the same.",
    ),
    Chart(
        "discriminator_scores",
        "Mean h of the discriminator",
        ("discriminator/score_data", "discriminator/score_rollouts"),
        "The two should come together at 0; a gap that grows means that the discriminator runs "
        "away from the policy.",
    ),
    Chart(
        "discriminator_entropy",
        "Entropy of the discriminator",
        ("discriminator/entropy",),
        "log 2 is 0.69.",
    ),
    Chart(
        "calibration",
        "Calibration errors",
        ("discriminator/calibration_error", "eval/probe_calibration_error"),
        "Small means that a ratio h can be taken at its word; on few answers it is never 0.",
    ),
    Chart(
        "reward",
        "Mean reward",
        ("train/reward",),
        "Near 0 policy and demonstrations look alike to the discriminator; judge progress by the "
        "held-out charts.",
    ),
    Chart(
        "reference",
        "KL to the reference",
        ("train/kl_reference",),
        "How far the policy has gone from the end of the imitation warm-up; without end is a "
        "collapse.",
    ),
    Chart(
        "entropy",
        "Policy entropy",
        ("train/policy_entropy",),
        "A fall to 0 means that the policy gives one answer only.",
    ),
    Chart(
        "ratios",
        "Clipped ratios",
        ("train/clipped_ratios",),
        "Many of them mean that a round is used for too many steps, or that steps are too large.",
    ),
    Chart(
        "self_play",
        "Margin of self-play",
        ("train/spin_margin",),
        "Above 0 the policy prefers demonstrations to its own earlier answers more than its "
        "opponent did.",
    ),
    Chart(
        "speed",
        "Tokens per second",
        ("system/tokens_per_second",),
        "It drops while rollouts are sampled.",
    ),
    Chart(
        "time",
        "Where the time goes",
        tuple(metric.name for metric in TIME_SHARES),
        "Forward and backward passes should have most of it; many rollouts can be used more often, "
        "and evaluations or checkpoints made more rarely.",
        is_whole=True,
    ),
    Chart(
        "optimiser",
        "Gradient norm",
        ("train/grad_norm",),
        "Spikes show steps that nearly went wrong.",
    ),
)
