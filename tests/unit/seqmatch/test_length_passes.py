"""How a batch is cut into passes of rows of about one length."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmatch.micro_batches import Pass, length_passes

lengths_of_rows = st.lists(st.integers(1, 200), min_size=1, max_size=40)


def padded_size(groups: list[list[int]], rows: Pass) -> int:
    """Positions of a pass, padding included."""
    lengths = [group[at] for group, places in zip(groups, rows, strict=True) for at in places]
    return len(lengths) * max(lengths)


def cost(groups: list[list[int]], passes: list[Pass], cost_of_a_pass: int) -> int:
    return sum(padded_size(groups, rows) + cost_of_a_pass for rows in passes)


@given(
    data=lengths_of_rows,
    rollouts=st.lists(st.integers(1, 200), max_size=40),
    max_positions=st.integers(200, 4000),
    num_processes=st.integers(1, 3),
)
def test_every_row_is_in_one_pass_and_no_pass_is_empty(
    data: list[int], rollouts: list[int], max_positions: int, num_processes: int
) -> None:
    passes = length_passes([data, rollouts], max_positions, num_processes=num_processes)

    for number, group in enumerate((data, rollouts)):
        assert sorted(at for rows in passes for at in rows[number]) == list(range(len(group)))
        assert not group or all(rows[number] for rows in passes)
        assert all(rows[number] == sorted(rows[number]) for rows in passes)
    fewest = min(len(group) for group in (data, rollouts) if group)
    if fewest >= num_processes:
        assert len(passes) % num_processes == 0
    else:
        assert len(passes) <= fewest
    assert passes == length_passes([data, rollouts], max_positions, num_processes=num_processes)


@given(data=lengths_of_rows, max_positions=st.integers(200, 4000))
def test_memory_suffices_for_every_pass_of_one_group(data: list[int], max_positions: int) -> None:
    for rows in length_passes([data], max_positions):
        assert padded_size([data], rows) < max_positions + max(data)


@given(data=st.lists(st.integers(1, 9), min_size=1, max_size=9), price=st.integers(0, 30))
def test_no_cut_by_length_costs_less(data: list[int], price: int) -> None:
    """Beside every way of cutting the rows in order of length."""
    order = sorted(range(len(data)), key=lambda at: -data[at])
    cheapest = min(
        cost([data], _cut_at(order, borders), price)
        for borders in product([False, True], repeat=len(data) - 1)
    )
    found = length_passes([data], 10**6, cost_of_a_pass=price)
    assert cost([data], found, price) <= cheapest + price  # it stops where little can be saved
    saved = len(data) * max(data) - sum(data)
    assert len(found) == 1 or saved > price


@pytest.mark.parametrize("seed", range(3))
def test_pairs_stay_together(seed: int) -> None:
    data = [3 + (7 * at + seed) % 50 for at in range(20)]
    rollouts = [5 + (11 * at + seed) % 60 for at in range(20)]
    passes = length_passes([data, rollouts], 400, is_paired=True)
    assert len(passes) > 2
    assert all(rows[0] == rows[1] for rows in passes)


def test_rows_of_one_length_are_one_pass_in_their_order() -> None:
    assert length_passes([[9] * 5, [9] * 3], 1000) == [[[0, 1, 2, 3, 4], [0, 1, 2]]]


def _cut_at(order: list[int], borders: tuple[bool, ...]) -> list[Pass]:
    passes: list[Pass] = [[[order[0]]]]
    for at, is_border in zip(order[1:], borders, strict=True):
        if is_border:
            passes.append([[]])
        passes[-1][0].append(at)
    return passes
