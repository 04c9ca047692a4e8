"""The objectives as forms, documents and the README present them; one entry for each `kind`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectiveInfo:
    """One objective in words."""

    kind: str
    """The `kind` of its config."""
    title: str
    sentence: str
    """What training with it does, in one plain sentence."""
    formula: str
    """What is minimised, in LaTeX."""
    needs: str
    """What training needs beside the base model."""
    behaviour: str
    """What kind of model to expect."""
    source: str


OBJECTIVES: Mapping[str, ObjectiveInfo] = {
    info.kind: info
    for info in (
        ObjectiveInfo(
            kind="sft",
            title="Supervised fine-tuning",
            sentence="Makes each demonstrated token likely after the demonstrated ones before it.",
            formula=r"\sum_{t<N} -\log p_\theta(y_t \mid s_t)",
            needs="demonstrations only",
            behaviour="Covers all that is demonstrated; has not learned what to do after a mistake "
            "of its own.",
            source="Forward KL of whole answers; equation 7 of arXiv 2403.12017",
        ),
        ObjectiveInfo(
            kind="sequence_match",
            title="SequenceMatch",
            sentence="Matches how often policy and demonstrations visit each state and action, "
            "with the policy's own logits as values and, if wanted, a backspace action.",
            formula=r"\begin{aligned}"
            r"&\sum_{t<N} \gamma^t \left[ -\log p_\theta(y_t \mid s_t) + d_t -"
            r" \tfrac1\alpha \varphi(\alpha d_t) \right] \\"
            r"&+ \gamma^N \left[ V(s_N) -"
            r" \tfrac{1}{\alpha(1-\gamma)} \varphi\bigl(\alpha(1-\gamma) V(s_N)\bigr) \right] \\"
            r"&d_t = \ell(y_t \mid s_t) - \gamma V(s_{t+1})"
            r"\end{aligned}",
            needs="demonstrations; with a mixture divergence also sampled answers of the policy",
            behaviour="Depends on the divergence; with backspace, takes back what does not "
            "look like the demonstrations.",
            source="Cundy & Ermon, arXiv 2306.05426, equation 4",
        ),
    )
}
