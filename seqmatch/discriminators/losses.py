"""Losses of a discriminator whose minimiser is h* = log rho_data/rho_model itself.

P = data, Q = model, v = e^h = P/Q, u = 1/v; the divergences are those of `seqmatch.divergences`.
Losses that leave h open up to a constant or a scale are in `pairs`.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from seqmatch.discriminators.scores import WeightedScores
from seqmatch.divergences import Divergence
from seqmatch.errors import ConfigError

SCORE_LIMIT = 10.0
"""Beyond +-10 nats the exponentials of the variational losses are continued linearly."""


def binary_cross_entropy(
    data: WeightedScores,
    rollouts: WeightedScores,
    *,
    label_smoothing: float = 0.0,
    smoothed: Literal["both", "data"] = "both",
) -> Float[Tensor, ""]:
    """Computes the log loss of D = sigma(h), summed over the two sides, in nats.

        L = -E_data[(1-e) log D + e log(1-D)] - E_model[(1-e') log(1-D) + e' log D]

    With e = 0 it is least at h* = log P/Q, where -L = 2 JS(P, Q) - 2 log 2 (D12). Smoothing keeps
    h* within log((1-e)/e): with e' = e ("both") h* = log[((1-e) P + e Q) / (e P + (1-e) Q)], which
    is 0 where P = Q; with e' = 0 ("data", one-sided) h* = log[(1-e) P / (e P + Q)], which is not:
    a reward made of it pays less than 0 for perfect imitation.

    Args:
        data: Scores of demonstrations.
        rollouts: Scores of rollouts.
        label_smoothing: e, from 0, below 1/2.
        smoothed: Whose labels are smoothed.

    Raises:
        ConfigError: e is outside its range.

    Source: Goodfellow et al. 2014, eq. 1; one-sided smoothing: Salimans et al. 2016, section 3.4;
    equations 16, 18 and 20 of arXiv 2403.12017.
    """
    if not 0.0 <= label_smoothing < 0.5:
        raise ConfigError(f"label smoothing is {label_smoothing}; allowed: from 0, below 0.5")
    of_rollouts = label_smoothing if smoothed == "both" else 0.0
    return data.mean(_log_loss(data.h, 1.0 - label_smoothing)) + rollouts.mean(
        _log_loss(rollouts.h, of_rollouts)
    )


def variational_loss(
    divergence: Divergence,
    data: WeightedScores,
    rollouts: WeightedScores,
    *,
    score_limit: float = SCORE_LIMIT,
) -> Float[Tensor, ""]:
    """Computes minus the lower bound on the divergence, as a loss with minimiser h* = log P/Q.

        L = -(E_data[T(h)] - E_model[R(h)]),   R = f_B*(T),   minimum -D

    The gradient in h_i is (Q_i - P_i e^{-h_i}) R'(h_i), which is 0 at h* only. Beyond the limit the
    value is that of the clamped h, still a bound, and the gradient the one at the limit: it never
    vanishes, so a score that is far off comes back.

    Args:
        divergence: Of the registry; its second derivative must exist.
        data: Scores of demonstrations.
        rollouts: Scores of rollouts.
        score_limit: Where |h| is held, in nats, above 0; e^30 is the most that float32 resolves.

    Raises:
        ConfigError: f has a corner (total variation): R'(h) is 0 and nothing would be learnt. Train
            with the cross entropy instead; the sign of its h is all that such a reward reads.

    Source: equation 29 of arXiv 2403.12017; Nowozin et al. 2016 (f-GAN), equation 6.
    """
    if divergence.second_derivative is None:
        raise ConfigError(
            f"the variational loss of {divergence.name} has no gradient in h, since its generator "
            "has a corner; allowed: every divergence with a second derivative, or the binary cross "
            "entropy"
        )
    return -variational_bound(divergence, data, rollouts, score_limit=score_limit)


def variational_bound(
    divergence: Divergence,
    data: WeightedScores,
    rollouts: WeightedScores,
    *,
    score_limit: float = SCORE_LIMIT,
) -> Float[Tensor, ""]:
    """Computes E_data[T(h)] - E_model[R(h)], at most D in expectation, and D at h = log P/Q.

    It is a bound for scores that were not fitted to these very samples. Arguments and the way h is
    held are those of `variational_loss`; every registered divergence has a value.
    """
    of_data = data_potential(divergence, _held(data.h, score_limit))
    of_rollouts = divergence.policy_reward(_held(rollouts.h, score_limit))
    return data.mean(of_data) - rollouts.mean(of_rollouts)


def data_potential(divergence: Divergence, h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Computes T(h) = f_B'(e^h), the activation that turns h into the variational function.

        T(h) = f(u) + u R(h),   T'(h) = e^{-h} R'(h),   f_B*(T(h)) = R(h),   u = e^{-h}

    f_B(v) = v f(1/v) is the generator in the papers' argument v = P/Q. Both forms follow from it
    (derived), so that any record of the registry will do. The value is summed in float64, since the
    terms of the first form cancel for h < 0. What is left is wrong by a few 2^-53 e^|h|: relative
    to max(1, |T|) at most 1e-11 for |h| <= 10 and 1e-4 for |h| <= 30. The gradient is the second
    form's and as precise as R'.
    """
    wide = h.detach().double()
    value = divergence.generator_of_log_ratio(-wide)
    value = value + (-wide).exp() * divergence.policy_reward(wide)
    reward = divergence.policy_reward(h)
    return value.to(h.dtype) + (-h.detach()).exp() * (reward - reward.detach())


def _log_loss(h: Float[Tensor, "*shape"], target: float) -> Float[Tensor, "*shape"]:
    """-target log sigma(h) - (1 - target) log sigma(-h)."""
    return softplus(h) - target * h


def _held(h: Float[Tensor, "*shape"], limit: float) -> Float[Tensor, "*shape"]:
    """The clamped h, with the gradient of h itself."""
    return h + (h.clamp(-limit, limit) - h).detach()
