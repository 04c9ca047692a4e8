"""Flags of adversarial imitation: each by its own stream, none by healthy ones."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import inf, nan
from pathlib import Path

import numpy as np
import pytest

from seqmatch.collapse import (
    CollapseMonitor,
    DiscriminatorVerdict,
    RoundSummary,
    patience_of,
    summarise,
)
from seqmatch.flags import FLAGS, Flag, make_flag

DOCUMENT = (Path(__file__).parents[3] / "docs" / "method.md").read_text(encoding="utf-8")
PATIENCE = 20
DEMONSTRATIONS = RoundSummary(20.0, 0.3, 0.01)
ROUND = RoundSummary(20.0, 0.4, 0.02, kl_to_reference=2.0, num_prompts=64)
VERDICT = DiscriminatorVerdict(0.8, 0.7, 0.5)

Item = DiscriminatorVerdict | RoundSummary | float | None
"""A verdict, a round, or the AUC of an evaluation."""


def tell(monitor: CollapseMonitor, item: Item) -> tuple[Flag, ...]:
    if isinstance(item, DiscriminatorVerdict):
        return monitor.after_update(item)
    if isinstance(item, RoundSummary):
        return monitor.after_round(item)
    return monitor.after_evaluation(item)


def new_monitor() -> CollapseMonitor:
    return CollapseMonitor(PATIENCE, demonstrations=DEMONSTRATIONS)


def flags_of(items: Iterable[Item], monitor: CollapseMonitor | None = None) -> list[Flag]:
    watching = monitor or new_monitor()
    return [flag for item in items for flag in tell(watching, item)]


def codes_of(items: Iterable[Item]) -> list[str]:
    return [flag.code for flag in flags_of(items)]


def healthy(seed: int, num_updates: int = 40 * PATIENCE) -> list[Item]:
    """A stream of a run that goes well: a round each four updates, at times an evaluation."""
    noise = np.random.default_rng(seed)
    items: list[Item] = []
    for step in range(num_updates):
        if step % 4 == 0:
            items.append(
                RoundSummary(
                    mean_length=20.0 * noise.uniform(0.8, 1.2),
                    distinct_2=0.4 * noise.uniform(0.8, 1.2),
                    most_common_share=noise.uniform(0.0, 0.04),
                    kl_to_reference=noise.uniform(0.0, 6.0) if noise.random() < 0.8 else None,
                    num_prompts=64,
                )
            )
        data, rollouts = noise.uniform(0.55, 0.9, size=2)
        items.append(DiscriminatorVerdict(data, rollouts, noise.uniform(0.2, 0.69)))
        if step % 50 == 49:
            items.append(noise.uniform(0.5, 0.9) if noise.random() < 0.8 else None)
    return items


def batches(seed: int, num_updates: int, share: float = 0.5) -> list[Item]:
    """Verdicts on batches of 64 and 64 answers that are right with probability `share`."""
    right = np.random.default_rng(seed).binomial(64, share, size=(num_updates, 2)) / 64
    return [DiscriminatorVerdict(data, rollouts, 0.69) for data, rollouts in right]


def rounds(bad: RoundSummary) -> list[Item]:
    return [ROUND, ROUND, bad, bad, bad]


def with_demonstrated_share(share: float) -> CollapseMonitor:
    shown = replace(DEMONSTRATIONS, most_common_share=share)
    return CollapseMonitor(PATIENCE, demonstrations=shown)


CHANCE = DiscriminatorVerdict(0.49, 0.52, 0.69)
COLLAPSES: dict[str, tuple[str, list[Item], str]] = {
    "right": (
        "discriminator_won",
        [DiscriminatorVerdict(1.0, 0.985, 0.2)] * PATIENCE,
        "99.2 % in the last one",
    ),
    "certain": (
        "discriminator_won",
        [DiscriminatorVerdict(0.99, 0.97, 0.01)] * PATIENCE,
        "0.010 in the last one",
    ),
    "chance": ("discriminator_gave_up", [0.8, *[CHANCE] * (5 * PATIENCE // 2)], "AUC of 0.80"),
    "chance, the probe later": (
        "discriminator_gave_up",
        [*[CHANCE] * (5 * PATIENCE), 0.5, None, 0.65, None],
        "For 100 updates",
    ),
    "constant": (
        "discriminator_gave_up",
        [*[VERDICT] * 3, *[DiscriminatorVerdict(1.0, 0.0, 0.01)] * PATIENCE, 0.9],
        "For 20 updates in a row",
    ),
    "the other constant": (
        "discriminator_gave_up",
        [*[VERDICT] * 3, *[DiscriminatorVerdict(0.01, 0.99, 0.4)] * PATIENCE, 0.9],
        "For 20 updates in a row",
    ),
    "KL": ("policy_collapsed", rounds(replace(ROUND, kl_to_reference=12.25)), "12.2 nats"),
    "no finite KL": ("policy_collapsed", rounds(replace(ROUND, kl_to_reference=inf)), "inf nats"),
    "variety": ("policy_collapsed", rounds(replace(ROUND, distinct_2=0.19)), "19.0 %"),
    "one answer": ("policy_collapsed", rounds(replace(ROUND, most_common_share=0.4)), "40.0 %"),
    "longer": ("length_exploited", rounds(replace(ROUND, mean_length=60.0)), "60.0 actions"),
    "shorter": ("length_exploited", rounds(replace(ROUND, mean_length=6.5)), "6.5 actions"),
}


@pytest.mark.parametrize("name", list(COLLAPSES))
def test_each_collapse_raises_its_flag_and_no_other(name: str) -> None:
    code, stream, seen = COLLAPSES[name]
    (flag,) = flags_of([*stream, *stream])
    info = FLAGS[code]
    assert (flag.code, flag.title) == (code, info.title)
    assert seen in flag.message
    assert info.meaning in flag.message
    assert flag.message.endswith(info.advice)
    assert flag.event_code == f"flag_{code}"


@pytest.mark.parametrize("name", list(COLLAPSES))
def test_a_collapse_in_a_healthy_run_raises_its_flag_alone(name: str) -> None:
    code, stream, _ = COLLAPSES[name]
    expected = [] if "chance" in name else [code]  # it has not been at chance since the start
    assert codes_of([ROUND, *healthy(0), *stream, *healthy(1)]) == expected


@pytest.mark.parametrize("seed", range(20))
def test_healthy_runs_raise_nothing(seed: int) -> None:
    assert codes_of(healthy(seed)) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_perfect_policy_raises_nothing(seed: int) -> None:
    stream = batches(seed, 20 * PATIENCE)
    assert codes_of(stream) == []
    assert codes_of([0.5, *stream, 0.6, None]) == []


def test_giving_up_is_seen_through_the_noise_of_small_batches() -> None:
    patience = 200
    for seed in range(20):
        monitor = CollapseMonitor(patience)
        stream = [0.8, *batches(seed, 5 * patience // 2)]
        assert [flag.code for flag in flags_of(stream, monitor)] == ["discriminator_gave_up"]
        slow = [0.8, *batches(seed, patience), *batches(seed, 4 * patience, share=0.6)]
        assert flags_of(slow, CollapseMonitor(patience)) == []


ALMOST: dict[str, Sequence[Item]] = {
    "right": [DiscriminatorVerdict(0.99, 0.99, 0.2)] * 10 * PATIENCE,
    "certain": [DiscriminatorVerdict(0.9, 0.9, 0.05)] * 10 * PATIENCE,
    "chance, too short": [0.8, *[CHANCE] * (5 * PATIENCE // 2 - 1)],
    "chance, the probe sees too little": [0.649, *[CHANCE] * 10 * PATIENCE],
    "a little better than chance": [0.8, *[DiscriminatorVerdict(0.55, 0.5, 0.6)] * 10 * PATIENCE],
    "constant": [*[VERDICT] * 9, *[DiscriminatorVerdict(0.98, 0.0, 0.6)] * 9 * PATIENCE, 0.9],
    "KL": [replace(ROUND, kl_to_reference=10.0)] * 9,
    "variety": [ROUND, *[replace(ROUND, distinct_2=0.2)] * 9],
    "one answer": [replace(ROUND, most_common_share=0.2, num_prompts=None)] * 9,
    "longer": [ROUND, *[replace(ROUND, mean_length=59.9)] * 9],
    "shorter": [ROUND, *[replace(ROUND, mean_length=6.7)] * 9],
}


@pytest.mark.parametrize("name", list(ALMOST))
def test_just_inside_a_threshold_raises_nothing(name: str) -> None:
    assert codes_of(ALMOST[name]) == []


@pytest.mark.parametrize("name", ["KL", "variety", "one answer", "longer", "shorter"])
def test_an_odd_round_raises_nothing(name: str) -> None:
    *_, odd = COLLAPSES[name][1]
    assert codes_of([ROUND, odd, ROUND, odd, odd, ROUND, ROUND, odd, odd]) == []


@pytest.mark.parametrize("name", ["right", "certain", "constant"])
def test_one_update_ends_a_row(name: str) -> None:
    *_, verdict = (item for item in COLLAPSES[name][1] if isinstance(item, DiscriminatorVerdict))
    stream: list[Item] = [0.9, VERDICT]
    for _ in range(3):
        stream += [*[verdict] * (PATIENCE - 1), VERDICT]
    assert codes_of(stream) == []


def test_a_number_that_is_not_known_neither_counts_nor_ends_a_row() -> None:
    far = replace(ROUND, kl_to_reference=12.0)
    unknown = replace(ROUND, kl_to_reference=None)
    assert codes_of([far, unknown, far, unknown, unknown]) == []
    assert codes_of([far, unknown, far, unknown, far]) == ["policy_collapsed"]
    void = replace(ROUND, distinct_2=None)
    assert codes_of([void, replace(ROUND, distinct_2=0.2), *[void] * 5]) == []


def test_a_verdict_that_is_not_finite_says_nothing_and_leaves_json() -> None:
    monitor = new_monitor()
    sure = DiscriminatorVerdict(1.0, 1.0, 0.1)
    odd = [DiscriminatorVerdict(nan, 1.0, 0.1), DiscriminatorVerdict(1.0, 1.0, nan)]
    stream: list[Item] = [*[sure] * (PATIENCE - 1), *odd, nan]
    assert flags_of(stream, monitor) == []
    json.dumps(monitor.state(), allow_nan=False)
    assert [flag.code for flag in tell(monitor, sure)] == ["discriminator_won"]


def test_certain_and_no_better_than_chance_has_not_won() -> None:
    assert codes_of([DiscriminatorVerdict(1.0, 0.0, 0.0)] * 10 * PATIENCE) == []


def test_the_common_answer_is_judged_by_the_demonstrations() -> None:
    alike: list[Item] = [replace(ROUND, most_common_share=0.5)] * 3
    assert flags_of(alike, CollapseMonitor(PATIENCE)) == []
    assert flags_of(alike, with_demonstrated_share(0.16)) == []
    assert len(flags_of(alike, with_demonstrated_share(0.1))) == 1
    always: list[Item] = [replace(ROUND, most_common_share=1.0)] * 3
    assert flags_of(always, with_demonstrated_share(0.5)) == []


@pytest.mark.parametrize("num_prompts", [4, 8, 32])
def test_few_prompts_that_are_answered_alike_by_chance_raise_nothing(num_prompts: int) -> None:
    """Ten equally likely answers, as in demonstrations; then always the same one."""
    noise = np.random.default_rng(num_prompts)
    prompts = [(number,) for number in range(num_prompts)]
    monitor = with_demonstrated_share(0.1)
    drawn = noise.integers(10, size=(2000, num_prompts, 1)).tolist()
    assert flags_of((summarise(answers, prompts) for answers in drawn), monitor) == []
    alike = summarise([(3,)] * num_prompts, prompts)
    assert [flag.code for flag in flags_of([alike] * 3, monitor)] == ["policy_collapsed"]


def test_a_length_that_comes_nearer_to_the_demonstrations_is_no_exploit() -> None:
    first = replace(ROUND, mean_length=70.0)
    assert codes_of([first, *[ROUND] * 10]) == []
    shorter: list[Item] = [replace(ROUND, mean_length=6.0)] * 3
    assert codes_of([first, *shorter]) == ["length_exploited"]
    unknown = CollapseMonitor(PATIENCE)
    assert len(flags_of([first, *[ROUND] * 3], unknown)) == 1


@pytest.mark.parametrize("name", list(COLLAPSES))
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_a_resumed_run_raises_what_an_unbroken_one_does(name: str, share: float) -> None:
    stream = COLLAPSES[name][1] * 2
    cut = int(share * len(stream))
    unbroken, first = new_monitor(), new_monitor()
    expected = flags_of(stream, unbroken)
    before = flags_of(stream[:cut], first)
    resumed = CollapseMonitor.from_state(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert before + flags_of(stream[cut:], resumed) == expected
    assert resumed.state() == unbroken.state()
    assert resumed.raised == tuple(flag.code for flag in expected)


def test_a_resumed_run_keeps_its_settings() -> None:
    monitor = CollapseMonitor(7, kl_limit=1.0, demonstrations=DEMONSTRATIONS)
    stored = json.loads(json.dumps(monitor.state()))
    resumed = CollapseMonitor.from_state(stored)
    tell(resumed, ROUND)
    assert CollapseMonitor.from_state(stored).state() == monitor.state()
    assert len(flags_of([ROUND] * 2, resumed)) == 1


@pytest.mark.parametrize(
    ("num_steps", "patience"), [(1, 10), (100, 10), (999, 99), (2000, 200), (10**6, 200)]
)
def test_patience_is_a_tenth_of_the_steps(num_steps: int, patience: int) -> None:
    assert patience_of(num_steps) == patience


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="patience of 0"):
        CollapseMonitor(0)
    with pytest.raises(ValueError, match="1 answers to 2 prompts"):
        summarise([(1,)], [(1,), (2,)])
    with pytest.raises(ValueError, match="0 answers"):
        summarise([], [])
    with pytest.raises(KeyError):
        make_flag("unheard_of", "")


def test_a_round_is_summarised() -> None:
    answers = [(1, 2, 1, 2), (1, 2), (5,), (1, 2)]
    prompts = [(0,), (7,), (7, 7), (8,)]
    found = summarise(answers, prompts, kl_to_reference=1.5)
    # Bigrams 12 21 12 | 12 | | 12: two of five are distinct; (1, 2) answers two of four prompts.
    assert found == RoundSummary(2.25, 0.4, 0.5, 1.5, 4)
    assert summarise([(1,), (2,)], [(0,), (1,)]).distinct_2 is None


@pytest.mark.parametrize(
    ("answers", "prompts", "share"),
    [
        ("aaab", "1111", 0.0),  # sure of one prompt
        ("aaaabbbb", "11112222", 0.0),  # sure of each, differently
        ("aaaaaaaa", "11112222", 1.0),
        ("aabb", "1122", 0.0),
        ("abab", "1122", 0.5),
        ("abca", "1234", 0.5),
        ("aaabcd", "112344", 0.5),  # prompt 1 counts once
    ],
)
def test_an_answer_is_common_across_prompts(answers: str, prompts: str, share: float) -> None:
    round_ = summarise([answer.encode() for answer in answers], [[ord(each)] for each in prompts])
    assert round_.most_common_share == share


@pytest.mark.parametrize("code", list(FLAGS))
def test_the_document_says_what_the_registry_says(code: str) -> None:
    (row,) = (line for line in DOCUMENT.splitlines() if line.startswith(f"| `{code}` "))
    info = FLAGS[code]
    assert all(words in row for words in (info.title, info.meaning, info.advice))


def test_variety_is_not_lost_by_length_alone() -> None:
    """Longer answers have a smaller share of distinct bigrams, shorter ones fewer of them."""
    longer = replace(ROUND, mean_length=50.0, distinct_2=0.17)
    shorter = replace(ROUND, mean_length=8.0, distinct_2=0.5)
    assert codes_of([ROUND, *[longer] * 5, *[shorter] * 5]) == []
    repeating = replace(ROUND, mean_length=50.0, distinct_2=0.05)
    assert codes_of([ROUND, *[repeating] * 5]) == ["policy_collapsed"]


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([0.995, 0.99, 0.999], ["discriminator_won"]),
        ([0.995, None, nan, 0.99, 0.999], ["discriminator_won"]),  # what is not known says nothing
        ([0.995, 0.989, 0.99, 0.999], []),
        ([0.98] * 20, []),
        ([0.995, 0.99], []),
    ],
)
def test_whole_answers_told_apart_three_times_in_a_row(
    areas: list[float | None], expected: list[str]
) -> None:
    monitor = new_monitor()
    found = [flag for area in areas for flag in monitor.after_evaluation(None, area)]
    assert [flag.code for flag in found] == expected
    assert all("AUC of 0.99 or more, 0.999 at the last one" in flag.message for flag in found)
