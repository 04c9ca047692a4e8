"""The policy step of adversarial imitation: rewards from a discriminator, returns, losses. Light.

A discriminator gives h(s_t, a_t) = log(rho_data / rho_model) for every action of a sampled answer;
demonstrations are high. The policy maximises the expected sum of R(h), with R(0) = 0 and R the
`Divergence.policy_reward`; h counts as fixed: no gradient goes through it. Where h is exactly that
log ratio, the gradient of what is maximised is minus that of the divergence.

Losses are minimised, are summed over the actions of an answer and never divided by its own length,
and take the mean over answers. All logs are natural. Torch is not imported: tensors' methods do.

Source: arXiv 2403.12017, equations 15 to 23 and 28 to 30, signs corrected; docs/method.md,
"Adversarial imitation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, assert_never

from seqmatch.divergences import get_divergence
from seqmatch.errors import ConfigError
from seqmatch.types import StateActionValues

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

RewardLevel = Literal["token", "trajectory", "increments"]
Reward = Callable[["Tensor"], "Tensor"]
"""R(h), elementwise."""

FAIRL_ORIGINAL = "fairl_original"
"""The name of the reward -h e^h beside those of the divergences."""
LOG_RATIO_LIMIT = 10.0
"""What a learnt h is limited to before an exponential of it is taken, in nats."""


def fairl_original(h: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Computes -h e^h, the reward of the code of FAIRL, for finite h.

    It is not the reward of any divergence here. Forward KL's is e^h - 1; this is -f(v) for its
    generator f(v) = v log v, v = e^h, and with h fixed its policy gradient is that of
    E_data[h^2] / 2, which rises: near h = 0 it drives the policy away from the data.

    Source: GitHub `KamyarGh/rl_swiss`, `rlkit/torch/irl/adv_irl.py`, mode "fairl"; the potential
    is derived.
    """
    return -h * h.exp()


def reward_function(name: str, order: float | None = None) -> Reward:
    """Returns R(h) of a registered divergence, or -h e^h for `FAIRL_ORIGINAL`.

    Args:
        name: Of the divergence, or `FAIRL_ORIGINAL`.
        order: The member of a family with a parameter; its default where None.

    Raises:
        UnknownNameError: No divergence has this name.
        ConfigError: The family has no member of this order.
    """
    return fairl_original if name == FAIRL_ORIGINAL else get_divergence(name, order).policy_reward


def limited(reward: Reward, limit: float = LOG_RATIO_LIMIT) -> Reward:
    """Returns R(clamp(h, -limit, limit)): finite and bounded whatever a discriminator says.

    Beyond the limit R is constant, so that the policy gradient still has its direction.
    """
    return lambda h: reward(h.clamp(-limit, limit))


def answer_rewards(
    h: Float[Tensor, "batch time"],
    is_action: Bool[Tensor, "batch time"],
    reward: Reward,
    level: RewardLevel,
) -> Float[Tensor, "batch time"]:
    """Computes the reward of every action; 0 beyond the last one, and without gradient.

        token        r_t = R(h_t)
        trajectory   r_t = R(h_K) at the last action t = K, else 0
        increments   r_t = R(h_t) - R(h_{t-1}),  h_{-1} = 0

    On the tree of prefixes h_K is the log ratio of whole answers, and for reverse KL an increment
    is that of the step alone, log p_data(a_t|s_t) - log p_model(a_t|s_t). Increments sum to R(h_K),
    the trajectory's reward; R(h_{t-1}) is known in s_t, so that with undiscounted returns both have
    one gradient (derived, D12).

    Args:
        h: log(rho_data / rho_model) of each action, in nats.
        is_action: True for t < N.
        reward: R, for a learnt h inside `limited`.
        level: Which of the three.
    """
    held = reward(h.detach().masked_fill(~is_action, 0.0)).masked_fill(~is_action, 0.0)
    match level:
        case "token":
            return held
        case "trajectory":
            return held.masked_fill(~_is_last(is_action), 0.0)
        case "increments":
            steps = held.clone()
            steps[:, 1:] -= held[:, :-1]
            return steps.masked_fill(~is_action, 0.0)
        case _:
            assert_never(level)


def discounted_returns(
    rewards: Float[Tensor, "batch time"],
    is_action: Bool[Tensor, "batch time"],
    discount: float,
    end_rewards: Float[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch time"]:
    """Computes what follows from each action, the absorbing state's infinite tail included.

        G_k = sum_{j=k}^{K} gamma^{j-k} r_j + gamma^{K+1-k} / (1 - gamma) r_end,   K = N - 1

    Args:
        rewards: r_t; what stands beyond the last action is not read.
        is_action: True for t < N.
        discount: gamma, above 0, at most 1.
        end_rewards: Reward of each step in the absorbing state; None for none. Leaving it out pays
            for length: an answer that goes on collects rewards and one that has ended does not.

    Returns:
        G_k, 0 beyond the last action.

    Raises:
        ConfigError: The discount is outside its range, or 1 with an infinite tail.
    """
    if not 0.0 < discount <= 1.0:
        raise ConfigError(f"discount {discount}; allowed: above 0, at most 1")
    returns = rewards.detach().masked_fill(~is_action, 0.0)
    if end_rewards is not None:
        if discount == 1.0:
            raise ConfigError(
                "discount 1 with rewards of the absorbing state; allowed: below 1, since the sum "
                "over it is infinite"
            )
        tail = discount / (1.0 - discount) * end_rewards.detach()
        returns = returns + tail[:, None].masked_fill(~_is_last(is_action), 0.0)
    for time in range(returns.shape[1] - 2, -1, -1):
        returns[:, time] += discount * returns[:, time + 1]
    return returns


def answer_returns(
    h: Float[Tensor, "batch time"],
    is_action: Bool[Tensor, "batch time"],
    reward: Reward,
    level: RewardLevel,
    discount: float,
) -> Float[Tensor, "batch time"]:
    """Computes the returns of each level as its divergence needs them.

    `token`, of occupancy measures: discounted, and the absorbing state goes on with R(h_K), since
    both measures keep gamma^N of an answer there. `trajectory` and `increments`, of laws of whole
    answers: undiscounted, without a tail. Arguments as for `answer_rewards`; `discount` is read
    with `token` only.
    """
    rewards = answer_rewards(h, is_action, reward, level)
    if level != "token":
        return discounted_returns(rewards, is_action, 1.0)
    end_rewards = rewards.masked_fill(~_is_last(is_action), 0.0).sum(dim=1)
    return discounted_returns(rewards, is_action, discount, end_rewards)


def rloo_advantages(
    rewards: Float[Tensor, " batch"], groups: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Computes A_i = r_i - mean of the other answers to the same prompt; sums to 0 in each group.

    With G answers A_i = G/(G-1) (r_i - mean). The baseline does not depend on the answer itself, so
    that the gradient stays unbiased (D20).

    Args:
        rewards: One for each answer.
        groups: Number of the prompt that it answers, from 0.

    Raises:
        ConfigError: A prompt has a single answer.

    Source: Ahmadian et al. 2024 (arXiv 2402.14740), leave-one-out baseline.
    """
    mean, size = _group_mean(rewards, groups)
    return size / (size - 1) * (rewards - mean)


def grpo_advantages(
    rewards: Float[Tensor, " batch"], groups: Int[Tensor, " batch"], epsilon: float = 1e-4
) -> Float[Tensor, " batch"]:
    """Computes A_i = (r_i - mean) / (std + epsilon) over the answers to one prompt; sums to 0.

    The standard deviation is that of a sample (G - 1). Dividing by it makes prompts with nearly
    equal rewards count as much as others, so the gradient is not that of the expected reward.

    Args:
        rewards: One for each answer.
        groups: Number of the prompt that it answers, from 0.
        epsilon: Keeps equal rewards at 0.

    Raises:
        ConfigError: A prompt has a single answer.

    Source: Shao et al. 2024 (arXiv 2402.03300). *Departure:* its loss divides by each answer's own
    length, which favours long wrong answers; the losses here do not.
    """
    mean, size = _group_mean(rewards, groups)
    squares, _ = _group_mean((rewards - mean).square(), groups)
    deviation = (size / (size - 1) * squares).sqrt()
    return (rewards - mean) / (deviation + epsilon)


def leave_one_out_returns(
    returns: Float[Tensor, "batch time"],
    is_action: Bool[Tensor, "batch time"],
    groups: Int[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """Computes G_{i,t} less the mean of G_{j,t} over the other answers that still run at t.

    The baseline of RLOO for returns that differ from action to action; 0 is taken off where no
    other answer to the prompt is that long. Unbiased: the others do not depend on this answer.

    Args:
        returns: G_t of each action.
        is_action: True for t < N.
        groups: Number of the prompt, from 0.
    """
    own = returns.detach().masked_fill(~is_action, 0.0)
    running = is_action.to(own.dtype)
    sums, counts = _group_sum(own, groups) - own, _group_sum(running, groups) - running
    return (own - sums / counts.clamp(min=1.0)).masked_fill(~is_action, 0.0)


def whitened(
    advantages: Float[Tensor, "batch time"],
    is_action: Bool[Tensor, "batch time"],
    epsilon: float = 1e-8,
) -> Float[Tensor, "batch time"]:
    """Computes (A - mean) / (std + epsilon) over all actions of the batch; 0 beyond the last.

    The step then does not depend on the scale of the rewards; with few answers its mean is biased.
    """
    count = is_action.sum()
    mean = advantages.masked_fill(~is_action, 0.0).sum() / count
    away = (advantages - mean).masked_fill(~is_action, 0.0)
    deviation = (away.square().sum() / count).sqrt()
    return away / (deviation + epsilon)


def reinforce_surrogate(
    rollouts: StateActionValues,
    advantages: Float[Tensor, "batch time"],
    discount: float = 1.0,
) -> Float[Tensor, ""]:
    """Computes a loss whose gradient is minus the policy gradient.

        L = - mean over answers of  sum_{t<N} gamma^t A_t log p(a_t|s_t)

    With A_t = G_t of the same gamma this is exact: E[grad L] = -grad E[sum gamma^t r_t + tail], and
    for the rewards of a divergence of occupancy measures (1 - gamma) E[grad L] = grad D (D11). The
    value of L means nothing.

    Args:
        rollouts: Values along the policy's own answers; with `weights`, all of them enumerated.
        advantages: Returns, with or without a baseline; they have no gradient.
        discount: gamma of the weights gamma^t; 1, the default, is usual and for gamma < 1 biased
            towards what comes late.

    Source: Williams 1992 (REINFORCE); Sutton et al. 2000, the factor gamma^t.
    """
    terms = -rollouts.token_nll() * advantages.detach()
    return -rollouts.mean(_discounted_sum(terms, rollouts, discount))


def ppo_surrogate(
    rollouts: StateActionValues,
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    clip: float = 0.2,
    discount: float = 1.0,
) -> Float[Tensor, ""]:
    """Computes the clipped loss for answers that a slightly older policy sampled.

        L = - mean of  sum_{t<N} gamma^t min( w_t A_t, clamp(w_t, 1 - clip, 1 + clip) A_t )

    with w_t = p(a_t|s_t) / p_old(a_t|s_t). At w = 1 its gradient is that of `reinforce_surrogate`.

    Args:
        rollouts: Values of the policy as it is, along the older one's answers.
        old_log_probs: log p_old(a_t|s_t), without gradient.
        advantages: As for `reinforce_surrogate`.
        clip: How far a ratio may move before it has no gradient, in (0, 1).
        discount: As for `reinforce_surrogate`.

    Raises:
        ConfigError: `clip` is outside its range.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7.
    """
    if not 0.0 < clip < 1.0:
        raise ConfigError(f"clip {clip}; allowed: above 0 and below 1")
    held = advantages.detach()
    beyond = ~rollouts.is_action
    log_ratio = (-rollouts.token_nll() - old_log_probs.detach()).masked_fill(beyond, 0.0)
    ratio = log_ratio.exp()
    terms = (ratio * held).minimum(ratio.clamp(1.0 - clip, 1.0 + clip) * held)
    return -rollouts.mean(_discounted_sum(terms.masked_fill(beyond, 0.0), rollouts, discount))


def kl_to_reference(
    rollouts: StateActionValues, reference_log_probs: Float[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Estimates KL(policy || reference) of whole answers on the policy's own samples, in nats.

        k3 = sum_{t<N} e^{d_t} - d_t - 1,   d_t = log p_ref(a_t|s_t) - log p(a_t|s_t)

    Never below 0, and unbiased where the samples are the policy's own. As a loss its gradient is,
    in expectation, that of KL(reference || policy) state by state, not of the KL that it estimates:
    the samples' own dependence on the policy is left out (derived).

    Args:
        rollouts: Values along the policy's own answers.
        reference_log_probs: log p_ref(a_t|s_t), without gradient.

    Source: Schulman 2020, "Approximating KL divergence", k3; Shao et al. 2024, equation 4.
    """
    beyond = ~rollouts.is_action
    away = (reference_log_probs.detach() + rollouts.token_nll()).masked_fill(beyond, 0.0)
    return rollouts.mean((away.expm1() - away).sum(dim=1))


def sampled_entropy(rollouts: StateActionValues) -> Float[Tensor, ""]:
    """Estimates the policy's entropy in nats per action, on its own samples; without gradient.

    The mean of -log p(a_t|s_t) over all actions: E[-log p(answer)] / E[N]. To be watched: it falls
    to 0 where the policy collapses.
    """
    lengths = rollouts.is_action.sum(dim=1).to(rollouts.values.dtype)
    total = rollouts.mean(rollouts.token_nll().sum(dim=1))
    return (total / rollouts.mean(lengths)).detach()


def _is_last(is_action: Bool[Tensor, "batch time"]) -> Bool[Tensor, "batch time"]:
    """True at the last action of each answer."""
    last = is_action.clone()
    last[:, :-1] &= ~is_action[:, 1:]
    return last


def _discounted_sum(
    terms: Float[Tensor, "batch time"], rollouts: StateActionValues, discount: float
) -> Float[Tensor, " batch"]:
    """Returns the sum of gamma^t x_t; t is the place of an action in its answer, from 0."""
    times = (rollouts.is_action.cumsum(dim=1) - 1).clamp(min=0).to(terms.dtype)
    return (discount**times * terms).sum(dim=1)


def _group_sum(
    each: Float[Tensor, "batch ..."], groups: Int[Tensor, " batch"]
) -> Float[Tensor, "batch ..."]:
    """The sum over the group of each row, at that row."""
    sums = each.new_zeros((int(groups.max()) + 1, *each.shape[1:]))
    return sums.index_add(0, groups, each)[groups]


def _group_mean(
    each: Float[Tensor, " batch"], groups: Int[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """The mean over the group of each row, and the group's size."""
    size = _group_sum(each.new_ones(each.shape), groups)
    if (size < 2).any():
        lonely = int(groups[size < 2][0])
        raise ConfigError(
            f"prompt {lonely} has one answer in the batch; a baseline from the others needs two"
        )
    return _group_sum(each.detach(), groups) / size, size
