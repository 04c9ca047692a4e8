"""The split, the limit on length, and what cannot be trained on."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmatch.demonstrations import check_trainable, fit_to_limit, split
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.types import Demonstration, TokenizedDemonstration

STOP = 9


def demos(*groups: str) -> list[Demonstration]:
    return [Demonstration("p", "a", group) for group in groups]


def row(num_prompt: int, *completion: int, index: int = 0) -> TokenizedDemonstration:
    return TokenizedDemonstration((1,) * num_prompt, completion, index)


@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60).filter(
        lambda groups: len(set(groups)) > 1
    ),
    fraction=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**31),
)
def test_a_split_keeps_groups_and_rows_together(
    groups: list[str], fraction: float, seed: int
) -> None:
    train, held = split(demos(*groups), fraction, seed)
    assert sorted(train + held) == list(range(len(groups)))
    assert train
    assert held
    assert not {groups[at] for at in train} & {groups[at] for at in held}
    sizes: dict[str, int] = defaultdict(int)
    for group in groups:
        sizes[group] += 1
    room = max(1, round(fraction * len(groups)))
    assert len(held) <= max(room, min(sizes.values()))
    assert split(demos(*groups), fraction, seed) == (train, held)


def test_a_split_of_single_rows_has_the_asked_size_and_follows_the_seed() -> None:
    rows = demos(*map(str, range(200)))
    first, second = split(rows, 0.1, 0)[1], split(rows, 0.1, 1)[1]
    assert len(first) == len(second) == 20
    assert first != second


def test_a_split_does_not_depend_on_the_order_of_the_rows() -> None:
    names = [str(at) for at in range(50)]
    held = {names[at] for at in split(demos(*names), 0.2, 3)[1]}
    names.reverse()
    assert {names[at] for at in split(demos(*names), 0.2, 3)[1]} == held


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(DemonstrationError, match="1 different prompts"):
        split(demos("a", "a"), 0.5, 0)
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        split(demos("a", "b"), 1.0, 0)


def test_rows_over_the_limit_are_dropped_cut_or_refused() -> None:
    rows = [row(2, 3, STOP, index=0), row(2, 3, 4, 5, STOP, index=1), row(5, 3, STOP, index=2)]
    assert fit_to_limit(rows, 4, "drop") == rows[:1]
    assert fit_to_limit(rows, 4, "cut") == [rows[0], row(2, 3, 4, index=1)]
    assert fit_to_limit(rows, 7, "stop") == rows
    with pytest.raises(DemonstrationError, match=r"2 of 3 rows .* row 2 with 6"):
        fit_to_limit(rows, 4, "stop")


def test_rows_without_a_supervised_token_cannot_be_trained_on() -> None:
    with pytest.raises(DemonstrationError, match=r"1 of 2 rows .*rows 8\)"):
        check_trainable([row(2, 3, STOP), row(2, STOP, index=7)], STOP)
    with pytest.raises(DemonstrationError, match="no row"):
        check_trainable([], STOP)


def test_a_stop_token_that_is_never_trained_is_refused() -> None:
    with pytest.raises(DemonstrationError, match="never trained"):
        check_trainable([row(2, 3, 4)], STOP)
    check_trainable([row(2, 3, 4), row(2, 3, STOP)], STOP)
