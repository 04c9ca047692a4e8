"""The objectives as forms, documents and the README present them; one entry for each `kind`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ObjectiveInfo:
    """One objective in words."""

    kind: str
    """The `kind` of its config."""
    title: str
    short_title: str
    """For names of runs and tables."""
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
            short_title="SFT",
            sentence="Makes each demonstrated token likely after the demonstrated ones before it.",
            formula=r"\sum_{t<N} -\log p_\theta(y_t \mid s_t)",
            needs="demonstrations only",
            behaviour="Covers all that is demonstrated; has not learned what to do after a mistake "
            "of its own.",
            source="Forward KL of whole answers; equation 7 of arXiv 2403.12017",
        ),
        ObjectiveInfo(
            kind="forward_kl_occupancy",
            title="Forward KL of occupancies",
            short_title="Forward KL",
            sentence="Makes the demonstrated tokens likely, and early ones more so: every later "
            "state depends on them.",
            formula=r"\begin{aligned}"
            r"&\sum_{t<N} w_t \left[ -\log p_\theta(y_t \mid s_t) \right] \\"
            r"&w_t = \gamma^t,\; N - t \text{ or } \tfrac{N - t}{N}"
            r"\end{aligned}",
            needs="demonstrations only",
            behaviour="Covers all that is demonstrated, like supervised fine-tuning, with more "
            "care for how answers begin. Only the weights gamma teach to stop as demonstrated; "
            "with count and count_norm answers become longer, with paper they need not end.",
            source="Equations 8 to 12 of arXiv 2403.12017; exact weights derived in docs/method.md",
        ),
        ObjectiveInfo(
            kind="dft",
            title="Dynamic fine-tuning (DFT)",
            short_title="DFT",
            sentence="Supervised fine-tuning that weighs each token by the probability that the "
            "policy gives it already, so that what it finds unlikely teaches little.",
            formula=r"\sum_{t<N} -\operatorname{sg}\bigl(p_\theta(y_t \mid s_t)\bigr) "
            r"\log p_\theta(y_t \mid s_t)",
            needs="demonstrations only; a base model that can do the task a little, since what is "
            "near probability 0 stays there",
            behaviour="mode-seeking",
            source="Wu et al., arXiv 2508.05629; dft_loss of Hugging Face TRL",
        ),
        ObjectiveInfo(
            kind="gem",
            title="GEM, linear",
            short_title="GEM",
            sentence="Supervised fine-tuning of the policy at a lower temperature, so that at "
            "temperature 1 it stays more varied than the demonstrations.",
            formula=r"\sum_{t<N} \beta \log \textstyle\sum_x e^{\ell(x \mid s_t)/\beta} "
            r"- \ell(y_t \mid s_t)",
            needs="demonstrations only",
            behaviour="Covers more than is demonstrated: each step tends to the demonstrations' "
            "law to the power beta.",
            source="Li et al., arXiv 2408.16673, with the linear h; code in GitHub liziniu/GEM",
        ),
        ObjectiveInfo(
            kind="sequence_match",
            title="SequenceMatch",
            short_title="SequenceMatch",
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
        ObjectiveInfo(
            kind="composite",
            title="Composite",
            short_title="Composite",
            sentence="A weighted sum of divergences, with a term for taking back exactly what was "
            "a mistake; both KLs at weight 1 are Jeffreys' divergence.",
            formula=r"\begin{aligned}"
            r"&w_f \mathrm{FKL} + w_r \mathrm{RKL} + \lambda \mathrm{JS} + \eta X^2"
            r" + \mu \mathrm{BK} \\"
            r"&\mathrm{FKL} = \textstyle\sum_t \gamma^t [-\log p_\theta(y_t \mid s_t)] \\"
            r"&\mathrm{RKL} = L_{\mathrm{SM}}^{\mathrm{rkl}},\quad"
            r" \mathrm{JS} = \tfrac12 L_{\mathrm{SM}}^{\mathrm{js}} \\"
            r"&X^2 = 2 L_{\mathrm{SM}}^{\mathrm{mix}} \\"
            r"&\mathrm{BK} = \textstyle\sum_t \gamma^t \mathrm{KL}\bigl("
            r"\mathrm{Ber}(q_t) \,\|\, \mathrm{Ber}(b_t)\bigr) \\"
            r"&q_t = p_\theta(\mathrm{bkspc} \mid s_t)"
            r"\end{aligned}",
            needs="demonstrations; with a weight on the mixture also sampled answers of the "
            "policy. No term is estimated by a discriminator",
            behaviour="Depends on the weights. At a small alpha all divergences are close to "
            "discounted likelihood, and so is their sum.",
            source="docs/method.md; the parts are those of arXiv 2306.05426",
        ),
        ObjectiveInfo(
            kind="adversarial",
            title="Adversarial imitation",
            short_title="Adversarial",
            sentence="Trains a discriminator to tell demonstrations from the policy's own answers, "
            "and the policy, in turn, to be rewarded by it; the reward is the one whose gradient "
            "is that of the chosen divergence.",
            formula=r"\begin{aligned}"
            r"&\min_h\; -\mathbb{E}_{\mathrm{data}} \log \sigma(h)"
            r" - \mathbb{E}_\theta \log \sigma(-h) \\"
            r"&h^* = \log (\rho_{\mathrm{data}} / \rho_\theta) \\"
            r"&\max_\theta\; \mathbb{E}_\theta \textstyle\sum_t \gamma^t R(h_t) \\"
            r"&R(h) = -f'(e^{-h})"
            r"\end{aligned}",
            needs="demonstrations, and in every few steps a round of fresh answers of the policy",
            behaviour="Depends on the divergence, and on how well the discriminator is trained: "
            "watch its curves, the leak probe and the flags.",
            source="Sun, arXiv 2403.12017, equations 15 to 30, signs corrected; docs/method.md",
        ),
        ObjectiveInfo(
            kind="spin",
            title="Self-play (SPIN)",
            short_title="SPIN",
            sentence="Prefers each demonstration to the answer that the policy itself gave to its "
            "prompt a few steps ago.",
            formula=r"\begin{aligned}"
            r"&-\log \sigma\bigl( \lambda [ D(y_{\mathrm{demo}}) - D(y_k) ] \bigr) \\"
            r"&D(y) = \log p_\theta(y \mid x) - \log p_k(y \mid x) \\"
            r"&y_k \sim p_k"
            r"\end{aligned}",
            needs="demonstrations, and in every few steps an answer of the policy to their prompts",
            behaviour="Stops where the policy's answers look like the demonstrations to its own "
            "log ratio; the baseline that the paper on adversarial imitation names.",
            source="Chen et al., arXiv 2401.01335",
        ),
        ObjectiveInfo(
            kind="dense_reward",
            title="Dense reward of the policy's own logits",
            short_title="Dense reward",
            sentence="Imitates first, then reinforces what the imitation's logits, read as "
            "Q-values, reward at every token.",
            formula=r"\begin{aligned}"
            r"&\max_\theta\; \mathbb{E}_\theta \textstyle\sum_t \gamma^t r_t \\"
            r"&r_t = \ell_{\mathrm{teacher}}(a_t \mid s_t)"
            r" - \gamma V_{\mathrm{teacher}}(s_{t+1})"
            r"\end{aligned}",
            needs="demonstrations, and in every few steps a round of fresh answers of the policy",
            behaviour="mode-seeking",
            source="docs/method.md; for fine-tuned policies arXiv 2510.02493",
        ),
    )
}
