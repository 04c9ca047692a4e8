"""Where the time of a run goes: one share for each phase of `seqmatch.phase_times`."""

from seqmatch.metrics.record import Metric

_PHASES = (
    (
        "data",
        "Data",
        "drawing batches, inserting mistakes, laying rows out for the single pass",
    ),
    ("rollout", "Rollouts", "sampling from the policy and judging what was sampled"),
    ("forward", "Forward", "the policy's forward pass and the loss; a target network's too"),
    ("backward", "Backward", "the gradient"),
    (
        "discriminator",
        "Discriminator",
        "what stands between forward and loss in rounds: the discriminator's learning, rewards "
        "and advantages",
    ),
    ("optimiser", "Optimiser", "clipping, AdamW and a target network's average"),
    ("logging", "Logging", "reporting numbers and asking whether to go on"),
    ("evaluation", "Evaluation", "the evaluations on held-out prompts"),
    ("checkpoint", "Checkpoints", "writing checkpoints"),
    ("other", "Other", "everything else"),
)

TIME_SHARES: tuple[Metric, ...] = tuple(
    Metric(
        f"system/share_{phase}",
        title,
        "share of time",
        "none",
        f"Share of the time since the last report: {what}.",
    )
    for phase, title, what in _PHASES
)
