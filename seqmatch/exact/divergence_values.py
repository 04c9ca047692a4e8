"""Exact values of every registered divergence between two measures: occupancies, laws of answers.

With P = data, Q = model and the record's generator f,

    D = sum over p, q > 0 of p f(q/p) + f(0) sum of p where q = 0 + lim f(u)/u sum of q where p = 0,

which is infinite exactly where the definition is.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from seqmatch.divergences import get_divergence
from seqmatch.exact.languages import Language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import data_law, output_law
from seqmatch.exact.token_chain import TokenChain


def divergence_value(
    name: str, p: Float[Tensor, "*shape"], q: Float[Tensor, "*shape"], order: float | None = None
) -> Float[Tensor, ""]:
    """Computes the divergence with this name of the model q from the data p.

    Args:
        name: A registered divergence.
        p: The data's measure: not negative, sums to 1; float64.
        q: The model's, on the same points.
        order: Of a family with a parameter; None is its default.

    Returns:
        The value, in nats where it is one; infinite where the definition is. Differentiable with
        respect to `q` where it is finite.

    Raises:
        UnknownNameError: No divergence has this name.
        ConfigError: The family has no member of this order.
    """
    divergence = get_divergence(name, order)
    in_data, in_model = p > 0, q > 0
    both = in_data & in_model
    log_ratio = q[both].log() - p[both].log()
    value = (p[both] * divergence.generator_of_log_ratio(log_ratio)).sum()
    value = value + _priced(p[~in_model], divergence.at_zero)
    return value + _priced(q[~in_data], divergence.at_infinity)


def occupancy_divergence(
    name: str,
    data: Float[Tensor, "state action"],
    chain: TokenChain,
    log_probs: Float[Tensor, "state action"],
    discount: float,
    order: float | None = None,
) -> Float[Tensor, ""]:
    """Computes the divergence of the policy's occupancy measure from the data's.

    Args:
        name: A registered divergence.
        data: rho_data(s, a) on the same chain, absorbed mass included: that of a `Demonstrator`.
        chain: States and where actions lead.
        log_probs: The policy's log p(a|s).
        discount: gamma, above 0 and below 1; the one of `data`.
        order: As in `divergence_value`.
    """
    model = state_action_occupancy(chain, log_probs, discount)
    return divergence_value(name, data, model, order)


def trajectory_divergence(
    name: str,
    language: Language,
    chain: TokenChain,
    log_probs: Float[Tensor, "state action"],
    order: float | None = None,
) -> Float[Tensor, ""]:
    """Computes the divergence of the policy's law of whole answers from the language's.

    With backspace the law is that of what stands in the end (`output_law`).

    Args:
        name: A registered divergence.
        language: Gives the data's law.
        chain: The language's chain.
        log_probs: The policy's log p(a|s).
        order: As in `divergence_value`.
    """
    return divergence_value(name, data_law(chain, language), output_law(chain, log_probs), order)


def _priced(outside: Float[Tensor, " point"], price: float) -> Float[Tensor, ""]:
    """Returns the price of the mass that only one side has; no mass costs nothing."""
    mass = outside.sum()
    if math.isinf(price):
        return torch.full_like(mass, price) if mass > 0 else torch.zeros_like(mass)
    return price * mass
