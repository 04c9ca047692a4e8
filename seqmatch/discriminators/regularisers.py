"""What keeps a discriminator smooth, and from running ahead of its policy.

Tokens are discrete, so the penalties are on the gradient in the embedded pairs that the scoring
network reads (`Discriminator.embedded`, `Discriminator.score`). Spectral norm is an option of the
network; older rollouts are replayed with `seqmatch.replay_buffer`.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Score = Callable[[Float[Tensor, "pair feature"]], Float[Tensor, " pair"]]

_LEAST = 1e-12
"""Added to squared norms, so that the norm of a vanishing gradient has a derivative."""


def interpolated(
    data: Float[Tensor, "pair feature"],
    rollouts: Float[Tensor, "other feature"],
    generator: torch.Generator,
) -> Float[Tensor, "mixed feature"]:
    """Returns e x_data + (1 - e) x_model of random pairs, e uniform; as many as the fewer side.

    Each side is shuffled, so that which meets which does not depend on the order of rows.

    Args:
        data: Embedded pairs of demonstrations.
        rollouts: Embedded pairs of rollouts.
        generator: On the CPU; equal states give equal draws.

    Source: Gulrajani et al. 2017 (WGAN-GP), algorithm 1.
    """
    count = min(len(data), len(rollouts))
    of_data = torch.randperm(len(data), generator=generator)[:count].to(data.device)
    of_rollouts = torch.randperm(len(rollouts), generator=generator)[:count].to(data.device)
    share = torch.rand(count, 1, generator=generator).to(data)
    return rollouts[of_rollouts].lerp(data[of_data], share).detach()


def gradient_penalty(
    score: Score, embedded: Float[Tensor, "pair feature"], *, target: float = 1.0
) -> Float[Tensor, ""]:
    """Computes the mean of (|grad_x score(x)| - target)^2, usually on `interpolated` pairs.

    Args:
        score: The scoring network; each pair's score may depend on that pair alone.
        embedded: Where the gradient is taken; no gradient flows into it.
        target: The norm that is asked for, per unit of the embedding; 1 in the source.

    Source: Gulrajani et al. 2017 (WGAN-GP), equation 3, there with the weight 10, as in the code of
    f-MAX and FAIRL (Ghasemipour et al. 2019).
    """
    return ((_squared_norms(score, embedded) + _LEAST).sqrt() - target).square().mean()


def r1_penalty(score: Score, embedded: Float[Tensor, "pair feature"]) -> Float[Tensor, ""]:
    """Computes half the mean of |grad_x score(x)|^2, on pairs of demonstrations.

    Source: Mescheder et al. 2018, equation 9.
    """
    return _squared_norms(score, embedded).mean() / 2


def may_update(accuracy: float, highest: float = 0.85) -> bool:
    """Tells whether the discriminator may be updated: not where it already tells most apart.

    Args:
        accuracy: Of the last batch, before its update, 0 to 1.
        highest: Above it updates are left out; 0.8 to 0.9 is usual.
    """
    return accuracy <= highest


def _squared_norms(score: Score, embedded: Float[Tensor, "pair feature"]) -> Float[Tensor, " pair"]:
    place = embedded.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(place).sum(), place, create_graph=True)
    return gradient.square().sum(dim=1)
