"""When adversarial imitation goes wrong: what raises a flag. Plain numbers in, flags out.

A policy is trained in turn with a discriminator. The monitor is told of every batch that the
discriminator judged, of every round of sampled answers and of every evaluation, and answers with
the flags that are new. What the flags mean and what to try stands in `seqmatch.flags`, when they
are raised in docs/method.md, "Flags".

A flag is raised once and stays raised: it is part of the state, which is JSON data, so that a
resumed run goes on as if it had not been stopped. A number that is not known (None) says nothing,
for a flag or against it. Logs are natural: entropies and divergences in nats.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from typing import Any, Self

from seqmatch.flags import Flag, make_flag
from seqmatch.round_summary import RoundSummary, summarise

__all__ = [
    "CollapseMonitor",
    "DiscriminatorVerdict",
    "RoundSummary",
    "patience_of",
    "summarise",
]

PATIENCE = 200
"""Updates over which a discriminator must look the same: batches differ, and it may recover."""
SHORTEST_PATIENCE = 10
"""For short runs: a tenth of their steps, but not so few that the noise of batches decides."""
ROUNDS_IN_A_ROW = 3
"""Rounds in which a condition must hold: one odd round is chance."""

WON_ACCURACY = 0.99
"""One in a hundred wrong: what the scores still say of one rollout against another is noise."""
WON_AUC = 0.99
"""On whole answers to held-out prompts: hardly a rollout is preferred to a demonstration."""
WON_ENTROPY = 0.05
"""Nats; Bernoulli(0.99) has 0.056. With label smoothing it is not reached: accuracy decides."""
CHANCE_BAND = 0.02
"""Distance of the accuracy from 1/2 that still is chance."""
GAVE_UP_PATIENCE = 2.5
"""Times the patience: a discriminator that is slow to begin has not given up."""
ALWAYS, NEVER = 0.98, 0.02
"""Accuracies of the two sides where the answer is constant."""
PROBE_AUC = 0.65
"""An independent probe tells demonstrations and rollouts apart; below it a good policy explains
an accuracy of 1/2 as well."""

KL_LIMIT = 10.0
"""Nats per answer: some answers have become e^10 times as likely as the reference finds them."""
DISTINCT_LEFT = 0.5
"""Share of the first round's distinct-2 below which variety is lost."""
COMMON_SHARE = 0.2
"""One prompt in five: no answer fits so many prompts that ask for different things."""
COMMON_FACTOR = 3.0
"""Times the demonstrations' share: where they answer alike, so may the policy."""
COMMON_ERRORS = 2.0
"""Standard errors by which a share must exceed its limit: of few prompts, two alike are many."""
LENGTH_FACTOR = 3.0
"""Imitation moves lengths by tens of per cent; a reward that pays for length by multiples."""

_IN_A_ROW = f"for {ROUNDS_IN_A_ROW} rounds in a row"
EVALUATIONS_IN_A_ROW = 3
"""As with rounds; between them the policy has had time to come nearer."""


@dataclass(frozen=True)
class DiscriminatorVerdict:
    """What the discriminator said of one batch, before it learned from it."""

    accuracy_data: float
    """Share of demonstrations with h above 0; h = 0 counts half."""
    accuracy_rollouts: float
    """Share of rollouts with h below 0; h = 0 counts half."""
    entropy: float
    """Mean entropy of Bernoulli(sigma(h)) over both sides, in nats."""

    @property
    def accuracy(self) -> float:
        """The mean of both sides; 1/2 is chance."""
        return (self.accuracy_data + self.accuracy_rollouts) / 2


def patience_of(num_steps: int) -> int:
    """Returns the patience of a run: a tenth of its steps, from 10 to 200."""
    return min(max(num_steps // 10, SHORTEST_PATIENCE), PATIENCE)


@dataclass(frozen=True)
class _Finding:
    """Whether a condition holds this time, and what is said once it has held long enough.

    Where that is not known there is no finding, which neither adds to a row nor ends it.
    """

    condition: str
    flag: str
    holds: bool
    seen: str


@dataclass
class _State:
    """What the monitor remembers; all of it is JSON data."""

    patience: int
    kl_limit: float
    demonstrations: dict[str, Any] | None
    rows: dict[str, int]
    """How often in a row each condition has held."""
    raised: list[str]
    num_updates: int = 0
    is_at_chance: bool = True
    """Whether every block of updates so far had an accuracy near 1/2."""
    block_sum: float = 0.0
    """Of the accuracies of the block under way."""
    block_size: int = 0
    num_constant: int = 0
    """Updates in a row at which the discriminator gave both sides the same answer."""
    first_length: float | None = None
    first_distinct_2: float | None = None
    probe_auc: float | None = None


class CollapseMonitor:
    """Watches a policy and its discriminator, and raises each flag at most once."""

    def __init__(
        self,
        patience: int = PATIENCE,
        *,
        kl_limit: float = KL_LIMIT,
        demonstrations: RoundSummary | None = None,
    ) -> None:
        """Starts before the first update of the discriminator.

        Args:
            patience: Updates over which a discriminator must look the same; `patience_of` a run.
            kl_limit: KL to the reference that is too far, in nats per answer.
            demonstrations: `summarise` of the demonstrated answers. Without it the most common
                answer is not judged, and lengths are compared with the first round alone.

        Raises:
            ValueError: The patience is below 1.
        """
        if patience < 1:
            raise ValueError(f"a patience of {patience} updates; it must be at least 1")
        known = asdict(demonstrations) if demonstrations else None
        self._state = _State(patience, kl_limit, known, rows={}, raised=[])

    @property
    def raised(self) -> tuple[str, ...]:
        """The codes of all flags raised so far, the oldest first."""
        return tuple(self._state.raised)

    def after_update(self, verdict: DiscriminatorVerdict) -> tuple[Flag, ...]:
        """Takes what the discriminator said of a batch; returns the flags that are new.

        To be called for every batch that it judged, also where a gate left the update out: a
        discriminator that has won is one whose updates are left out. A verdict with a number that
        is not finite says nothing.
        """
        if not (isfinite(verdict.accuracy) and isfinite(verdict.entropy)):
            return ()
        state = self._state
        state.num_constant = state.num_constant + 1 if _is_constant(verdict) else 0
        self._count_chance(verdict.accuracy)
        lasting = self._lasting(_won(verdict, state.patience), state.patience)
        return self._raise([*lasting, *self._gave_up()])

    def after_round(self, summary: RoundSummary) -> tuple[Flag, ...]:
        """Takes a round of sampled answers; returns the flags that are new.

        The first round is what later ones are compared with: the first of the adversarial stage.
        """
        state = self._state
        if state.first_length is None:
            state.first_length = summary.mean_length
        if state.first_distinct_2 is None:
            state.first_distinct_2 = summary.distinct_2
        known = RoundSummary(**state.demonstrations) if state.demonstrations else None
        found = [
            *_far_from_reference(summary, state.kl_limit),
            *_little_variety(summary, state.first_distinct_2, state.first_length),
            *_one_answer(summary, known),
            *_lengths(summary, state.first_length, known),
        ]
        return self._raise(self._lasting(found, ROUNDS_IN_A_ROW))

    def after_evaluation(
        self, probe_auc: float | None, held_out_auc: float | None = None
    ) -> tuple[Flag, ...]:
        """Takes what was measured on held-out prompts; returns the flags that are new.

        Args:
            probe_auc: AUC of an independent probe; None where it was not measured: the last one
                that was is kept.
            held_out_auc: AUC of the run's own discriminator on whole answers; None where there are
                too few to say.
        """
        if probe_auc is not None and isfinite(probe_auc):
            self._state.probe_auc = probe_auc
        lasting = self._lasting(_told_apart(held_out_auc), EVALUATIONS_IN_A_ROW)
        return self._raise([*lasting, *self._gave_up()])

    def state(self) -> dict[str, Any]:
        """Returns all that the monitor knows as plain data; JSON keeps it exactly."""
        return asdict(self._state)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Returns the monitor whose `state` this is, its settings included."""
        monitor = cls()
        stored = {**state, "rows": dict(state["rows"]), "raised": list(state["raised"])}
        monitor._state = _State(**stored)
        return monitor

    def _count_chance(self, accuracy: float) -> None:
        """Adds to the block under way; closes it when it is long enough.

        The mean over half the patience is looked at, since the accuracy of one batch of a few
        dozen answers leaves the band by chance alone.
        """
        state = self._state
        state.num_updates += 1
        state.block_sum += accuracy
        state.block_size += 1
        if state.block_size >= state.patience // 2:
            mean = state.block_sum / state.block_size
            state.is_at_chance = state.is_at_chance and abs(mean - 0.5) <= CHANCE_BAND
            state.block_sum, state.block_size = 0.0, 0

    def _lasting(self, found: Sequence[_Finding], needed: int) -> list[_Finding]:
        """Counts each condition's row; returns those that have held `needed` times."""
        rows = self._state.rows
        for each in found:
            rows[each.condition] = rows.get(each.condition, 0) + 1 if each.holds else 0
        return [each for each in found if each.holds and rows[each.condition] >= needed]

    def _gave_up(self) -> list[_Finding]:
        """Compares the discriminator with the probe.

        Without a probe nothing is said, because a perfect policy looks the same.
        """
        state = self._state
        auc = state.probe_auc
        if auc is None or auc < PROBE_AUC:
            return []
        probe = f"while a probe tells demonstrations and rollouts apart with an AUC of {auc:.2f}."
        found = []
        if state.is_at_chance and state.num_updates >= GAVE_UP_PATIENCE * state.patience:
            seen = f"For {state.num_updates:,} updates since its first the discriminator was right "
            found.append(f"{seen}no more often than chance, {probe}")
        if state.num_constant >= state.patience:
            seen = f"For {state.num_constant:,} updates in a row the discriminator said the same "
            found.append(f"{seen}of demonstrations and rollouts, {probe}")
        return [_Finding("gave_up", "discriminator_gave_up", True, seen) for seen in found]

    def _raise(self, found: Sequence[_Finding]) -> tuple[Flag, ...]:
        new: dict[str, Flag] = {}
        for each in found:
            if each.flag not in self._state.raised and each.flag not in new:
                new[each.flag] = make_flag(each.flag, each.seen)
        self._state.raised.extend(new)
        return tuple(new.values())


def _is_constant(verdict: DiscriminatorVerdict) -> bool:
    """Tells whether nearly all of both sides were given the same answer."""
    sides = verdict.accuracy_data, verdict.accuracy_rollouts
    return max(sides) > ALWAYS and min(sides) < NEVER


def _won(verdict: DiscriminatorVerdict, patience: int) -> list[_Finding]:
    """Finds a discriminator that is right nearly always, or as good as certain.

    One that is certain and no better than chance, such as one with a constant answer, has not won.
    """
    start = f"In each of the last {patience:,} updates the discriminator "
    is_better_than_chance = verdict.accuracy > 0.5 + CHANCE_BAND
    return [
        _Finding(
            "right",
            "discriminator_won",
            verdict.accuracy > WON_ACCURACY,
            f"{start}was right about more than {_percent(WON_ACCURACY)} of demonstrations and "
            f"rollouts, {_percent(verdict.accuracy)} in the last one.",
        ),
        _Finding(
            "certain",
            "discriminator_won",
            verdict.entropy < WON_ENTROPY and is_better_than_chance,
            f"{start}was as good as certain: the entropy of its verdict was below {WON_ENTROPY} "
            f"nats, {verdict.entropy:.3f} in the last one.",
        ),
    ]


def _told_apart(auc: float | None) -> list[_Finding]:
    """Finds a discriminator that tells whole answers apart, and a policy that does not follow.

    Single actions may look alike to it all the while: the first ones of an answer do.
    """
    if auc is None or not isfinite(auc):
        return []
    seen = (
        f"At {EVALUATIONS_IN_A_ROW} evaluations in a row the discriminator told whole answers from "
        f"held-out demonstrations with an AUC of {WON_AUC} or more, {auc:.3f} at the last one."
    )
    return [_Finding("told_apart", "discriminator_won", auc >= WON_AUC, seen)]


def _far_from_reference(summary: RoundSummary, limit: float) -> list[_Finding]:
    kl = summary.kl_to_reference
    if kl is None:
        return []
    seen = f"The KL to the reference is {kl:.1f} nats per answer, {_IN_A_ROW} above {limit:g}."
    return [_Finding("far_from_reference", "policy_collapsed", kl > limit, seen)]


def _little_variety(
    summary: RoundSummary, first: float | None, first_length: float
) -> list[_Finding]:
    """Finds that fewer bigrams are distinct: of their share, and of their number.

    Longer answers have a smaller share of distinct bigrams, and shorter ones a smaller number,
    without any loss of variety; neither alone says anything.
    """
    now = summary.distinct_2
    if now is None or first is None:
        return []
    seen = (
        f"{_percent(now)} of the pairs of neighbouring actions are distinct, {_IN_A_ROW} less than "
        f"half of the {_percent(first)} of the first round."
    )
    # Bigrams of an answer are one less than its actions; below two actions there is none.
    longer = max(summary.mean_length - 1.0, 0.0) / max(first_length - 1.0, 1e-9)
    is_less = max(now, now * longer) < DISTINCT_LEFT * first
    return [_Finding("little_variety", "policy_collapsed", is_less, seen)]


def _one_answer(summary: RoundSummary, demonstrations: RoundSummary | None) -> list[_Finding]:
    """Finds an answer that is given to many prompts, and to many more than in demonstrations."""
    if demonstrations is None:
        return []
    share, shown = summary.most_common_share, demonstrations.most_common_share
    # Above 1 it is never passed: the demonstrations themselves have hardly more than one answer.
    limit = max(COMMON_SHARE, COMMON_FACTOR * shown)
    variance = max(limit * (1.0 - limit), 0.0)
    margin = COMMON_ERRORS * sqrt(variance / summary.num_prompts) if summary.num_prompts else 0.0
    seen = (
        f"One and the same answer is given to {_percent(share)} of the prompts, {_IN_A_ROW} too "
        f"many; in the demonstrations to {_percent(shown)}."
    )
    return [_Finding("one_answer", "policy_collapsed", share > limit + margin, seen)]


def _lengths(
    summary: RoundSummary, first: float, demonstrations: RoundSummary | None
) -> list[_Finding]:
    """Finds answers that got much longer or shorter than at first, and than demonstrated.

    A policy that comes nearer to the demonstrations' length has learned, not exploited.
    """
    now = summary.mean_length
    shown = demonstrations.mean_length if demonstrations else first
    compared = f"{first:.1f} in the first round"
    if demonstrations:
        compared += f" and {shown:.1f} in the demonstrations"
    numbers = f"answers have {now:.1f} actions on average, against {compared}."
    longest, shortest = max(first, shown), min(first, shown)
    return [
        _Finding(
            "longer",
            "length_exploited",
            shortest > 0.0 and now >= LENGTH_FACTOR * longest,
            f"At least three times as long {_IN_A_ROW}: {numbers}",
        ),
        _Finding(
            "shorter",
            "length_exploited",
            LENGTH_FACTOR * now <= shortest and shortest > 0.0,
            f"At most a third as long {_IN_A_ROW}: {numbers}",
        ),
    ]


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f} %"
