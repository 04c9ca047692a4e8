"""What an objective and a divergence are, as Markdown made of our own registries only."""

from seqmatch.divergences import get_divergence
from seqmatch.errors import unknown_name
from seqmatch.objectives.catalogue import OBJECTIVES


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
        parts.append(_facts(info.needs, info.behaviour, info.source))
    return "\n\n".join(parts)


def divergence_card(name: str) -> str:
    """Returns one plain sentence, the formula, what it needs and how it behaves.

    Raises:
        UnknownNameError: a divergence that the registry does not know.
    """
    entry = get_divergence(name)
    return "\n\n".join(
        (
            entry.sentence,
            f"$${entry.formula}$$",
            _facts(entry.needs, entry.behaviour, entry.source),
        )
    )


def _facts(needs: str, behaviour: str, source: str) -> str:
    meanings = {
        "mass-covering": "mass-covering: it puts probability wherever the expert has some",
        "mode-seeking": "mode-seeking: it avoids what the expert never does, and may leave out "
        "some of what the expert does",
        "between": "between mass-covering and mode-seeking",
    }
    lines = [
        f"- **Behaviour:** {meanings.get(behaviour, behaviour)}",
        f"- **Needs:** {needs}",
        f"- **Source:** {source}",
    ]
    return "\n".join(lines)
