"""Two processes train as one does: the same curves, stops and checkpoints.

The processes start once and go through all cases. What a run on one process reported is the
independent reference: there nothing is shared and nothing added up.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmatch import gradients
from seqmatch.checkpoints import published
from seqmatch.micro_batches import length_passes
from seqmatch.reporting import Control
from tests.several_processes import TALK, case, ends, events, reported, run_all
from tests.short_runs import Recorder, train_short

pytestmark = pytest.mark.xdist_group("two processes")

RARELY = {"evaluation": {"every": 20, "num_prompts": 6, "max_new_tokens": 4, "num_samples": 2}}
ROUNDS = {"every": 3, "batch_size": 8, "buffer_size": 20, "max_new_tokens": 4}
ADVERSARIAL = {
    "kind": "adversarial",
    "policy_step": {"answers_per_prompt": 2},
    "rollouts": ROUNDS,
    "corruption": {"rate": 0.3},
    "discriminator": {"history_share": 0.5, "updates": 2, "gradient_penalty": 1.0},
    "stop_on_flag": False,
}
ON_THE_WAY = {"corruption": {"rate": 0.3, "burst": 3, "alphabet": "model_top_k"}}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "sft": {**RARELY, "device": "cpu,cpu", "objective": {"kind": "sft", "backspace": False}},
    "sequence match": {**RARELY, "objective": {**ON_THE_WAY, "target_decay": 0.8}},
    "adversarial": {**RARELY, "objective": ADVERSARIAL},
    "sharded": {**RARELY, "objective": ON_THE_WAY, "parallelism": "shard"},
}
STOPPED_AT = 7


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one process, stopped in the middle."""
    folder = tmp_path_factory.mktemp("alone")
    train_short(folder, Recorder(STOPPED_AT, Control.STOP_AND_SAVE), SETTINGS["sharded"])
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, alone: Path) -> Path:
    """Folders of all cases, each run on two processes."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("resumed", "resumed sharded"):
        shutil.copytree(alone, folder / name)
    usual = {**SETTINGS["sharded"], "parallelism": "replicate"}
    cases = [case(folder / name, changes) for name, changes in SETTINGS.items()]
    cases += [
        case(folder / "resumed", usual),
        case(folder / "resumed sharded", SETTINGS["sharded"]),
        case(folder / "stopped", usual, stop_at=STOPPED_AT),
        case(folder / "left", usual, stop_at=STOPPED_AT, answer="stop"),
        case(folder / "short of memory", SETTINGS["sequence match"], short_of_memory=1),
        case(folder / "recomputed", {**SETTINGS["sharded"], "gradient_checkpointing": True}),
        case(folder / "talk", TALK),
        case(folder / "three", {"device": "cpu,cpu,cpu"}),
    ]
    run_all(cases, folder)
    return folder


def one_process(folder: Path, name: str) -> dict[tuple[str, int], float]:
    recorder = Recorder()
    changes = {**SETTINGS[name], "device": "cpu", "parallelism": "replicate"}
    train_short(folder, recorder, changes)
    return recorder.repeatable()


def assert_same_loss(
    one: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float]
) -> None:
    assert one.keys() == other.keys()
    losses = {key for key in one if key[0] in ("train/loss", "train/nll", "eval/nll")}
    assert len(losses) > 20
    for key in losses:
        assert other[key] == pytest.approx(one[key], abs=1e-5), key
    for key in (key for key in one if key[0] == "train/grad_norm"):  # the loss hides its scale
        assert other[key] == pytest.approx(one[key], rel=1e-4), key


@pytest.mark.parametrize("name", ["sft", "sequence match", "sharded"])
def test_two_processes_have_the_loss_curve_of_one(two: Path, tmp_path: Path, name: str) -> None:
    assert ends(two / name) == [["completed", 20]] * 2
    assert_same_loss(one_process(tmp_path, name), reported(two / name))
    saved, of_one = (
        load_file(run / "checkpoints" / "step-00000020" / "policy" / "model.safetensors")
        for run in (two / name, tmp_path)
    )
    assert saved.keys() == of_one.keys()
    for key, weight in of_one.items():
        torch.testing.assert_close(saved[key], weight, atol=2e-4, rtol=0.0)


def test_blocks_that_run_again_are_divided_among_processes_too(two: Path) -> None:
    assert_same_loss(reported(two / "sharded"), reported(two / "recomputed"))


def test_a_round_on_two_processes_is_one_process_in_two_passes_bit_by_bit(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_two(groups: Any, max_positions: int, *, num_processes: int, **how: Any) -> Any:
        return length_passes(groups, max_positions, num_processes=2 * num_processes, **how)

    monkeypatch.setattr(gradients, "length_passes", in_two)

    of_one = one_process(tmp_path, "adversarial")

    assert {"discriminator/loss", "train/reward"} <= {name for name, _ in of_one}
    assert {key: value for key, value in of_one.items() if "train/" in key[0]} == {
        key: value for key, value in reported(two / "adversarial").items() if "train/" in key[0]
    }


def test_a_run_goes_on_with_another_number_of_processes(
    two: Path, alone: Path, tmp_path: Path
) -> None:
    """From one to two, whole and sharded, and from two to one: the curve is that of one."""
    whole = one_process(tmp_path / "whole", "sharded")
    shutil.copytree(two / "stopped", tmp_path / "back")
    back = Recorder()
    train_short(tmp_path / "back", back, {**SETTINGS["sharded"], "parallelism": "replicate"})

    later = {key: value for key, value in whole.items() if key[1] > STOPPED_AT}
    assert len({step for name, step in later if name == "train/loss"}) == 20 - STOPPED_AT
    for found in (reported(two / "resumed"), reported(two / "resumed sharded"), back.repeatable()):
        assert found.keys() == later.keys()
        for key in (key for key in later if key[0] == "train/loss"):
            assert found[key] == pytest.approx(later[key], abs=1e-5), key
    assert events(two / "resumed sharded") == ["resumed"]


def test_all_processes_stop_at_the_step_at_which_the_owner_asks(two: Path) -> None:
    assert ends(two / "stopped") == [["stopped", STOPPED_AT]] * 2
    assert ends(two / "left") == [["stopped", STOPPED_AT]] * 2
    assert [each.step for each in published(two / "stopped" / "checkpoints")] == [STOPPED_AT, 5]
    assert [each.step for each in published(two / "left" / "checkpoints")] == [5]


def test_where_one_runs_out_of_memory_both_take_smaller_passes(two: Path) -> None:
    assert events(two / "short of memory") == ["smaller_passes"]
    assert_same_loss(reported(two / "sequence match"), reported(two / "short of memory"))


def test_what_processes_tell_each_other(two: Path) -> None:
    first, second = ends(two / "talk")

    said = [2, [0, 1, 4, 9, 16], [8], [3.0, 3.0], [[2.0, 2.0, 2.0]], [5.0], "of 0"]
    assert first == [*said, "refused in process 0", True, False]
    assert second == first


def test_other_processes_than_the_config_names_are_refused(two: Path) -> None:
    for kind, message in ends(two / "three"):
        assert kind == "ConfigError"
        assert "'cpu,cpu,cpu' is 3 processes, and 2 started on this machine" in message
