"""What the numbers of the lens say, in plain sentences for pages and command line. Light."""

import math

from seqmatch.jobs.lens_types import Between, Judge, Measured

CHANCE = 0.5
MOSTLY = 0.8
"""Above this share of the probe's distance from chance, the leak is said to be most of it."""
PARTLY = 0.3


def reading(measured: Measured) -> str:
    """Returns what AUC and leak AUC say together."""
    auc, leak = measured.auc, measured.leak_auc
    if auc.low <= CHANCE:
        return _not_distinguishable(auc)
    known = f"{leak.value:.2f} of the probe's {auc.value:.2f}"
    share = (leak.value - CHANCE) / (auc.value - CHANCE)
    if leak.value > auc.value:
        return (
            f"Length and white space alone reach {leak.value:.2f}, more than the probe's "
            f"{auc.value:.2f}: the answers differ mostly in length, in how they stop or in white "
            "space."
        )
    if leak.low <= CHANCE and share < MOSTLY:
        return (
            f"Told apart ({auc.value:.2f}), and not by length or white space, which alone are at "
            f"chance ({leak.value:.2f}): the answers differ in what they say."
        )
    if share >= MOSTLY:
        return (
            f"Length and white space alone reach {known}: the answers differ mostly in length, in "
            "how they stop or in white space."
        )
    if share >= PARTLY:
        return (
            f"Length and white space alone reach {known}: part of the difference is length, "
            "stopping or white space, the rest is what the answers say."
        )
    return (
        f"Length and white space alone reach only {known}: the answers differ mostly in what they "
        "say."
    )


def judged_by(judge: Judge) -> str:
    """Returns whose h it is, and what that means."""
    if judge.kind == "discriminator":
        return (
            f"h of the run's own discriminator, saved beside its policy at step {judge.step:,}: "
            "what the policy was trained against."
        )
    return (
        "h of a probe, since no discriminator was saved with this run: fitted after the fact, on "
        f"frozen features of the base model, to {judge.num_fitted:,} training demonstrations and "
        f"as many fresh answers of the policy of step {judge.step:,}. What these features do not "
        "see, h does not show."
    )


def in_words(h: float) -> str:
    """Returns a log ratio as a sentence says it: "3 times as likely in the demonstrations"."""
    ratio = math.exp(min(abs(h), 50.0))
    if ratio < 1.1:
        return "about as likely in the demonstrations as from the run"
    where = (
        "in the demonstrations as from the run"
        if h > 0
        else "from the run as in the demonstrations"
    )
    times = "over 10,000" if ratio > 10_000 else f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
    return f"{times} times as likely {where}"


def _not_distinguishable(auc: Between) -> str:
    where = (
        "the interval of the AUC contains 1/2"
        if auc.high >= CHANCE
        else "the AUC is below 1/2, which a probe reaches by chance alone"
    )
    return (
        f"Not distinguishable yet: {where}. More answers narrow it; features of a stronger base "
        "model see more."
    )
