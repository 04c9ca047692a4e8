"""The registry of flags: how adversarial imitation goes wrong, in words. Light: no torch.

`seqmatch.collapse` decides when a flag is raised; pages and documents show what stands here. A
raised flag is an event of its run with the code `flag_<code>`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

EVENT_PREFIX = "flag_"


@dataclass(frozen=True)
class FlagInfo:
    """One flag in words."""

    code: str
    title: str
    """A few words in small letters, for a badge."""
    meaning: str
    """One sentence: what it means for the run."""
    advice: str
    """What to try."""


@dataclass(frozen=True)
class Flag:
    """A flag as it was raised in a run."""

    code: str
    title: str
    message: str
    """What was seen, with the number; what it means; what to try."""

    @property
    def event_code(self) -> str:
        """The code of the event that reports it."""
        return EVENT_PREFIX + self.code


FLAGS: Mapping[str, FlagInfo] = {
    info.code: info
    for info in (
        FlagInfo(
            code="discriminator_won",
            title="discriminator won",
            meaning="It tells nearly every rollout from the demonstrations, so its scores hardly "
            "say which rollout is better and the policy has no learning signal left.",
            advice="Try label smoothing, a smaller discriminator learning rate, or fewer updates a "
            "step.",
        ),
        FlagInfo(
            code="discriminator_gave_up",
            title="discriminator gave up",
            meaning="Demonstrations and rollouts differ, but the discriminator does not see how, "
            "so what the policy is rewarded for is noise.",
            advice="Try more updates a step, a longer warm-up of the discriminator, another "
            "discriminator learning rate, or a weaker penalty.",
        ),
        FlagInfo(
            code="policy_collapsed",
            title="policy collapsed",
            meaning="The policy has lost its variety or has gone far from where the adversarial "
            "stage began, and its own answers hardly lead it back.",
            advice="Look at the samples; try a larger weight of the KL to the reference, a smaller "
            "learning rate, or more imitation beside the reward.",
        ),
        FlagInfo(
            code="length_exploited",
            title="length exploited",
            meaning="Length changed more than imitation asks for: the policy probably found that "
            "longer or shorter answers alone score better.",
            advice="Compare lengths with the demonstrations; try another level of the reward, a "
            "larger weight of the KL to the reference, or a smaller learning rate.",
        ),
    )
}
"""The flags by their codes, in the order in which they are shown."""


def make_flag(code: str, seen: str) -> Flag:
    """Returns the flag that reports what was seen, with the registry's meaning and advice.

    Args:
        code: One of `FLAGS`.
        seen: A sentence with the number that raised it.
    """
    info = FLAGS[code]
    return Flag(code, info.title, f"{seen} {info.meaning} {info.advice}")
