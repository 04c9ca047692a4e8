"""What is said of a number that a run may report."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class Metric:
    """One reportable number."""

    name: str
    """`group/name`; the group is train, eval, rollout, discriminator or system."""
    title: str
    unit: str
    direction: Direction
    """Which way is better; "none" where neither is."""
    meaning: str
    """One sentence: what is plotted, and for an estimate of what kind it is."""
