"""What is measured of a discriminator while it trains beside the policy.

Unless something else is said, on the batch of the step before the discriminator learns from it.
"""

from seqmatch.metrics.record import Metric

DISCRIMINATORS: tuple[Metric, ...] = (
    Metric(
        "discriminator/loss",
        "Discriminator loss",
        "nats",
        "none",
        "What the discriminator minimises, penalties included; 2 log 2 of the cross entropy is "
        "chance.",
    ),
    Metric(
        "discriminator/accuracy_data",
        "Accuracy on demonstrations",
        "share",
        "none",
        "Weighted share of demonstrations with h above 0; h = 0 counts as half.",
    ),
    Metric(
        "discriminator/accuracy_rollouts",
        "Accuracy on rollouts",
        "share",
        "none",
        "Weighted share of rollouts with h below 0; h = 0 counts as half.",
    ),
    Metric(
        "discriminator/auc",
        "AUC, training",
        "share",
        "none",
        "P(h of a demonstration > h of a rollout) on the training batch; 1/2 is chance.",
    ),
    Metric(
        "discriminator/held_out_auc",
        "AUC, held out",
        "share",
        "none",
        "P(h of a demonstration > h of a rollout), whole answers: held-out demonstrations against "
        "fresh rollouts to their prompts; 1/2 is chance.",
    ),
    Metric(
        "discriminator/entropy",
        "Entropy of its verdict",
        "nats",
        "none",
        "Mean entropy of Bernoulli(sigma(h)) over both sides: log 2 where it knows nothing, near 0 "
        "where it has won.",
    ),
    Metric(
        "discriminator/score_data",
        "Mean h, demonstrations",
        "nats",
        "none",
        "Weighted mean of h = log rho_data/rho_model over demonstrations.",
    ),
    Metric(
        "discriminator/score_rollouts",
        "Mean h, rollouts",
        "nats",
        "none",
        "Weighted mean of h = log rho_data/rho_model over rollouts.",
    ),
    Metric(
        "discriminator/calibration_error",
        "Calibration error",
        "share",
        "lower",
        "Held out, whole answers: mean gap between sigma(h) and the share of demonstrations among "
        "answers with about that sigma(h), in ten bins. Biased upwards on few answers.",
    ),
    Metric(
        "discriminator/updates",
        "Updates taken",
        "share",
        "none",
        "Share of the discriminator's updates that were taken; the others were left out because it "
        "already told most apart, or a number was not finite.",
    ),
)
