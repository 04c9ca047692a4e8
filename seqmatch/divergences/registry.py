"""All divergences by name."""

from collections.abc import Mapping

from seqmatch.divergences.alpha_family import DEFAULT_ORDER, alpha_divergence
from seqmatch.divergences.catalogue import FIXED_DIVERGENCES
from seqmatch.divergences.record import Divergence, Family
from seqmatch.errors import unknown_name

DIVERGENCES: Mapping[str, Divergence] = {
    divergence.name: divergence
    for divergence in (*FIXED_DIVERGENCES, alpha_divergence(DEFAULT_ORDER))
}
"""A family with a parameter stands here at its default order."""


def get_divergence(name: str, order: float | None = None) -> Divergence:
    """Returns the registered divergence.

    Args:
        name: Its name.
        order: The member of a family with a parameter; its default where None. Divergences
            without a parameter ignore it.

    Raises:
        UnknownNameError: No divergence has this name; the message lists those that exist.
        ConfigError: The family has no member of this order.
    """
    if name not in DIVERGENCES:
        raise unknown_name("divergence", name, DIVERGENCES)
    divergence = DIVERGENCES[name]
    if order is None or divergence.with_order is None or order == divergence.order:
        return divergence
    return divergence.with_order(order)


def divergences_of(family: Family) -> Mapping[str, Divergence]:
    """Returns the divergences that a family of objectives can minimise, as registered now."""
    return {name: entry for name, entry in DIVERGENCES.items() if family in entry.families}
