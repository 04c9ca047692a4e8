"""What an objective and a divergence are, as Markdown made of our own registries only."""

from seqmatch.objectives.catalogue import OBJECTIVES

from seqmatch.divergences import Divergence, get_divergence
from seqmatch.errors import unknown_name


def objective_card(kind: str, divergence: str | None) -> str:
    """Returns one plain sentence, the formula, what it needs and how it behaves.

    Raises:
        UnknownNameError: an objective or a divergence that no registry knows.
    """
    if kind not in OBJECTIVES:
        raise unknown_name("objective", kind, OBJECTIVES)
    info = OBJECTIVES[kind]
    if divergence is None:
        return "\n\n".join(
            (
                f"**{info.title}.** {info.sentence}",
                f"$${info.formula}$$",
                _facts(info.needs, info.behaviour, info.source),
            )
        )
    return _divergence_card(get_divergence(divergence))


def _divergence_card(entry: Divergence) -> str:
    return "\n\n".join(
        (
            f"**{entry.title}.** {entry.sentence}",
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
