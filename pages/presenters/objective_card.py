"""What an objective and a divergence are, as Markdown made of our own registries only."""

from collections.abc import Mapping

from seqmatch.divergences import Divergence, get_divergence
from seqmatch.errors import ConfigError, unknown_name
from seqmatch.exact.choices import KNOWN_AS
from seqmatch.objectives.catalogue import OBJECTIVES

SMALL_ALPHA = 0.1
"""Up to it the card of a divergence says that all of them are close to likelihood."""


def objective_card(kind: str, *, is_brief: bool = False) -> str:
    """Returns one plain sentence and the formula; unless brief, also its needs and behaviour.

    Raises:
        UnknownNameError: an objective that the registry does not know.
    """
    if kind not in OBJECTIVES:
        raise unknown_name("objective", kind, OBJECTIVES)
    info = OBJECTIVES[kind]
    parts = [info.sentence, f"$${info.formula}$$"]
    if not is_brief:
        parts.append(_facts(info.behaviour, {"Needs": info.needs, "Source": info.source}))
    return "\n\n".join(parts)


def divergence_card(name: str, order: float | None = None, alpha: float | None = None) -> str:
    """Returns one plain sentence, the formula, f and phi, what it needs and how it behaves.

    Args:
        name: The divergence.
        order: The member of a family with a parameter; the default one where None or not allowed.
        alpha: The entropy weight that SequenceMatch trains with; where it is small, the card says
            what that does to the choice of a divergence.

    Raises:
        UnknownNameError: a divergence that the registry does not know.
    """
    entry = _member(name, order)
    member = f" (order {entry.order:g})" if entry.order is not None else ""
    parts = [
        f"**{entry.title}{member}.** {entry.sentence}",
        f"$${entry.formula}$$",
        f"$${entry.generator_formula}$$",
        f"$${entry.phi_formula}$$",
        _facts(
            entry.behaviour,
            {"Needs": entry.needs, "Source": entry.source, "Symmetric": _symmetry(entry)},
        ),
    ]
    if alpha is not None and 0 < alpha <= SMALL_ALPHA and "sequence_match" in entry.families:
        parts.append(_at_small_alpha(entry, alpha))
    return "\n\n".join(parts)


def reward_card(name: str, order: float | None = None) -> str:
    """Returns what adversarial imitation makes of a divergence: its sentence, formula, f and R(h).

    Arguments and errors are those of `divergence_card`.
    """
    entry = _member(name, order)
    member = f" (order {entry.order:g})" if entry.order is not None else ""
    known_as = f", the method {KNOWN_AS[name]}" if name in KNOWN_AS else ""
    parts = [
        f"**{entry.title}{member}{known_as}.** {entry.sentence}",
        f"$${entry.formula}$$",
        f"$${entry.generator_formula}$$",
        f"$${entry.reward_formula},\\quad h \\approx \\log"
        r" \frac{\rho_{\mathrm{data}}}{\rho_\theta}$$",
        _facts(
            entry.behaviour,
            {
                "Needs": OBJECTIVES["adversarial"].needs,
                "Symmetric": _symmetry(entry),
                "Limit": "h is held within ±10 nats, and the reward with it",
            },
        ),
    ]
    return "\n\n".join(parts)


def _member(name: str, order: float | None) -> Divergence:
    try:
        return get_divergence(name, order)
    except ConfigError:  # said at the field; the card stays readable meanwhile
        return get_divergence(name)


def _symmetry(entry: Divergence) -> str:
    if entry.is_symmetric:
        return "yes, model and demonstrations can be exchanged"
    return "no, model and demonstrations have different parts"


def _at_small_alpha(entry: Divergence, alpha: float) -> str:
    """Holds for every normalised generator; figures from f''(1)."""
    sentence = (
        f"**At alpha {alpha:g} every divergence is close to discounted likelihood:** the choice "
        "changes the loss of a token by a second-order term only"
    )
    if entry.second_derivative is None:
        return f"{sentence}."
    weight = alpha / (2 * entry.second_derivative)
    return (
        f"{sentence}, here about {weight:.2g} d², with d the soft temporal difference in nats. A "
        "larger alpha makes divergences differ more, and biases more towards entropy."
    )


def _facts(behaviour: str, more: Mapping[str, str]) -> str:
    meanings = {
        "mass-covering": "mass-covering: it puts probability wherever the expert has some",
        "mode-seeking": "mode-seeking: it avoids what the expert never does, and may leave out "
        "some of what the expert does",
        "between": "between mass-covering (probability wherever the expert has some) and "
        "mode-seeking (none where the expert has none)",
    }
    lines = [f"- **Behaviour:** {meanings.get(behaviour, behaviour)}"]
    lines += [f"- **{name}:** {text}" for name, text in more.items()]
    return "\n".join(lines)
