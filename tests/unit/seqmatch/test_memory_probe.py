"""How large a pass may be, asked of a callable that measures or runs out of memory."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seqmatch.memory_probe import SHARE_OF_FREE, most_positions, probing_row, run_passes
from seqmatch.pass_mode import PassMode
from seqmatch.policy import Policy
from seqmatch.run_batches import PASSES_WITHOUT_GRADIENT
from seqmatch.run_start import _measured_positions, largest_shape
from seqmatch.single_pass import build_batch
from tests.short_runs import Recorder, begin_short, config_short
from tests.tiny_models import policy_of, tiny_llama

LONGEST = 10


class Device:
    """Memory that takes `constant + positions` bytes a pass and has no more than `size`."""

    def __init__(self, size: float, constant: int = 0) -> None:
        self.size, self.constant = size, constant
        self.asked: list[int] = []

    def peak_bytes(self, positions: int) -> int:
        self.asked.append(positions)
        if self.constant + positions > self.size:
            raise torch.OutOfMemoryError("no room")
        return self.constant + positions


@pytest.mark.parametrize(
    ("size", "budget", "constant", "found", "asked"),
    [
        (1e9, 1e9, 0, 80, [10, 20, 40, 80]),  # all that is wanted
        (50, 1e9, 0, 40, [10, 20, 40, 80]),  # memory runs out: half of what failed
        (1e9, 40, 0, 40, [10, 20, 40, 80]),  # the budget holds exactly four rows
        (1e9, 39, 0, 20, [10, 20, 40]),
        (1e9, 1040, 1000, 40, [10, 20, 40, 80]),  # gradients of weights are no part of a position
        (5, 1e9, 0, 10, [10]),  # not even a row: it cannot be divided
        (1e9, -1, 0, 10, [10]),
    ],
)
def test_passes_double_while_memory_lasts(
    size: float, budget: float, constant: int, found: int, asked: list[int]
) -> None:
    device = Device(size, constant)
    most = most_positions(device.peak_bytes, longest=LONGEST, wanted=75, budget_bytes=budget)
    assert (most, device.asked) == (found, asked)


def test_a_little_more_or_less_free_memory_changes_nothing() -> None:
    answers = {
        most_positions(Device(1e9).peak_bytes, longest=LONGEST, wanted=10**6, budget_bytes=budget)
        for budget in range(1280, 2560)
    }
    assert answers == {1280}


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def broken(positions: int) -> int:
        raise RuntimeError("no kernel for this type")

    with pytest.raises(RuntimeError, match="no kernel"):
        most_positions(broken, longest=1, wanted=4, budget_bytes=1e9)


@contextmanager
def counting(policy: Policy, counted: list[int]) -> Any:
    """Adds up the bytes that passes keep for backward, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in policy.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        is_weight = tensor.untyped_storage().data_ptr() in weights
        counted.append(0 if is_weight else tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield


def kept_by(policy: Policy, num_slots: int) -> Callable[[int], int]:
    """Bytes that a pass of so many positions really keeps."""
    row = probing_row(policy, num_slots)

    def peak_bytes(positions: int) -> int:
        counted: list[int] = []
        with counting(policy, counted):
            run_passes(policy, row, positions // num_slots, PASSES_WITHOUT_GRADIENT)
        return sum(counted)

    return peak_bytes


def test_the_largest_pass_that_fits_is_found_by_running_passes() -> None:
    policy = policy_of(tiny_llama()).train()
    kept = kept_by(policy, LONGEST)
    ask = partial(most_positions, kept, longest=LONGEST, wanted=1000)
    for budget in (kept(80), kept(80) - 1):
        most = ask(budget_bytes=budget)
        assert kept(most) <= budget < kept(2 * most)
    assert ask(budget_bytes=kept(80)) == 2 * ask(budget_bytes=kept(80) - 1) == 80
    policy.set_pass_mode(PassMode(is_checkpointed=True))
    assert ask(budget_bytes=kept_by(policy, LONGEST)(320)) == 320
    assert all(weight.grad is None for weight in policy.parameters())


@pytest.mark.parametrize("backspace", [True, False])
def test_the_row_fills_its_slots_and_needs_a_mask_where_there_is_backspace(backspace: bool) -> None:
    policy = policy_of(tiny_llama(), backspace=backspace)
    for num_slots in (2, 3, LONGEST):
        batch = build_batch([probing_row(policy, num_slots)] * 2, policy.space)
        assert batch.input_ids.shape == (2, num_slots)
        assert batch.is_plain != backspace or num_slots == 2


def test_the_largest_shape_has_room_for_rollouts(tmp_path: Path) -> None:
    run = begin_short(tmp_path, Recorder())
    train = run.rows.train
    demonstration = max(len(row.prompt_ids) + len(row.completion_ids) for row in train)
    prompt = max(len(row.prompt_ids) for row in train)
    for new_tokens in (1, 20):
        changes = {"objective": {"rollouts": {"max_new_tokens": new_tokens}}}
        longest = max(demonstration, prompt + new_tokens)
        shape = largest_shape(config_short(changes), run.rows, None, 3)
        assert shape == (longest, longest * 6), "8 demonstrations and 8 rollouts on 3 processes"
    sft = config_short({"objective": {"kind": "sft"}})
    assert largest_shape(sft, run.rows, None) == (demonstration, 8 * demonstration)
    assert largest_shape(sft, run.rows, 5) == (5, 40)


def test_the_budget_leaves_room_for_what_training_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's accounts are stood in for by the bytes that passes keep; no GPU is asked."""
    run = begin_short(tmp_path, Recorder())
    policy, (longest, wanted) = run.state.policy, largest_shape(run.config, run.rows, None)
    trained = sum(each.nbytes for each in policy.trainable_parameters().values())
    kept = kept_by(policy, longest)
    free = [0.0]
    counted: list[int] = []
    stands_in: dict[str, Any] = {
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: counted.clear(),
        "memory_allocated": lambda device: 1000,
        "max_memory_allocated": lambda device: 1000 + sum(counted),
        "mem_get_info": lambda device: (free[0] / SHARE_OF_FREE, 10**12),
    }
    for name, function in stands_in.items():
        monkeypatch.setattr(torch.cuda, name, function)

    def measured(free_bytes: float) -> int:
        free[0] = free_bytes
        with counting(policy, counted):
            return _measured_positions(run.config, run.rows, run.state, 1)

    two_rows = kept(2 * longest) + 1
    assert measured(1e12) >= wanted > measured(1e12) / 2
    assert measured(two_rows) == longest
    assert measured(two_rows + 2 * trained) == 2 * longest, "two moments are still to come"
    run.update(run.draw_batch())
    assert measured(two_rows) == 2 * longest
