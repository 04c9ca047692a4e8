"""What is measured on the batches that a policy is trained on."""

from seqmatch.metrics.record import Metric

TRAINING: tuple[Metric, ...] = (
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
        "train/surrogate",
        "Policy step",
        "",
        "none",
        "The clipped surrogate whose gradient is minus the policy gradient; its value means "
        "nothing.",
    ),
    Metric(
        "train/reward",
        "Mean reward",
        "",
        "none",
        "Mean reward of an answer of the batch under the present discriminator, or under the "
        "teacher: the return at its first action, before any baseline. It may fall while the "
        "policy improves, since the discriminator moves too.",
    ),
    Metric(
        "train/kl_reference",
        "KL to the reference",
        "nats per sequence",
        "none",
        "Estimated KL of whole answers from the policy to the policy at the end of the imitation "
        "warm-up, on the batch's answers (k3; unbiased where they are fresh).",
    ),
    Metric(
        "train/policy_entropy",
        "Policy entropy",
        "nats per action",
        "none",
        "Mean -log p(a|s) over the actions of the batch's answers; near 0 the policy has "
        "collapsed.",
    ),
    Metric(
        "train/clipped_ratios",
        "Clipped ratios",
        "share of actions",
        "lower",
        "Share of the batch's actions whose probability has moved beyond the clip since they were "
        "sampled.",
    ),
    Metric(
        "train/spin_loss",
        "SPIN loss",
        "nats per pair",
        "lower",
        "-log sigma of the scaled margin between demonstration and opponent's answer; log 2 where "
        "the policy is the opponent.",
    ),
    Metric(
        "train/spin_margin",
        "SPIN margin",
        "nats",
        "none",
        "Mean difference between the log ratios, policy over opponent, of a demonstration and of "
        "the opponent's answer to its prompt.",
    ),
)
