"""Which device each process of a run takes, and which runs can be shared at all."""

from typing import Any

import pytest
import torch

from seqmatch.config import RunConfig
from seqmatch.config_flags import run_config
from seqmatch.distributed import ALONE, process_device
from seqmatch.errors import ConfigError
from seqmatch.micro_batches import num_passes
from seqmatch.types import Trajectory

TWO_SHARDS = {"parallelism": "shard", "device": "cuda,cuda"}
DATA = {"data": {"dataset": "x"}}


def here(rank: int, size: int) -> dict[str, str]:
    return {"LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}


@pytest.mark.parametrize(
    ("device", "rank", "size", "num_gpus", "expected"),
    [
        ("auto", 0, 1, 0, "cpu"),
        ("auto", 0, 1, 2, "cuda"),
        ("cuda", 0, 1, 1, "cuda"),
        ("cuda:1", 0, 1, 2, "cuda:1"),
        ("cuda,cuda", 1, 2, 2, "cuda:1"),
        ("cuda:3,cuda:1", 0, 2, 4, "cuda:3"),
        ("cuda:3,cuda:1", 1, 2, 4, "cuda:1"),
        ("auto", 3, 4, 8, "cuda:3"),
        ("cpu", 1, 2, 8, "cpu"),
        ("auto", 1, 2, 0, "cpu"),
    ],
)
def test_each_process_takes_its_device(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    rank: int,
    size: int,
    num_gpus: int,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    assert process_device(device, here(rank, size)) == torch.device(expected)


@pytest.mark.parametrize(
    ("device", "size", "words"),
    [
        ("cuda:2", 1, "this machine has 2 CUDA devices"),
        ("cuda", 3, "this machine has 2 CUDA devices"),
        ("cuda,cuda", 1, "is 2 processes, and 1 started on this machine"),
        ("cuda,cuda", 3, "is 2 processes, and 3 started"),
    ],
)
def test_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, device: str, size: int, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=words):
        process_device(device, here(size - 1, size))


@pytest.mark.parametrize(
    ("num_rows", "max_positions", "size", "expected"),
    [(8, 1000, 1, 1), (8, 1000, 2, 2), (8, 24, 2, 4), (8, 30, 3, 3), (3, 1000, 4, 3), (6, 1, 4, 6)],
)
def test_processes_get_equally_many_passes_as_long_as_there_are_rows(
    num_rows: int, max_positions: int, size: int, expected: int
) -> None:
    rows = [Trajectory((1, 2), (3, 4, 5, 6, 7, 8), (3, 4, 5, 6, 7, 8))] * num_rows
    assert num_passes([rows], max_positions, size) == expected


def test_a_process_alone_shares_nothing() -> None:
    assert ALONE.is_main
    assert ALONE.spread([1, 2, 3], lambda rows: [-row for row in rows]) == [-1, -2, -3]
    assert ALONE.gather(5) == [5]
    assert not ALONE.has_heard("stop")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"device": "cuda:1,cuda:1"}, "a GPU is named twice"),
        ({"device": "cuda,cpu"}, "no device, nor a list of devices of one kind"),
        ({"device": "auto,auto"}, "no device, nor a list of devices of one kind"),
        ({"device": "cpu,cpu", "optimization": {"batch_size": 1}}, "each needs a demonstration"),
        ({**TWO_SHARDS, "adapter": {"kind": "lora"}}, "with adapter.kind 'lora' only"),
        ({**TWO_SHARDS, "objective": {"kind": "spin"}}, "another policy's, as spin does"),
        (
            {
                **TWO_SHARDS,
                "objective": {"kind": "sequence_match", "target_decay": 0.9},
            },
            "a target network's",
        ),
        (
            {
                "parallelism": "shard",
                "device": "cuda,cuda,cuda",
                "optimization": {"batch_size": 64},
            },
            "64 demonstrations cannot be divided by 3",
        ),
    ],
)
def test_what_several_devices_cannot_do_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_config({**DATA, "adapter": {"kind": "full"}, **settings})


def test_one_process_has_nothing_to_divide_and_refuses_nothing() -> None:
    config = run_config({**DATA, "adapter": {"kind": "lora"}, "parallelism": "shard"})
    assert config.devices == ("auto",)


def test_a_list_of_devices_may_have_blanks_and_old_configs_have_one() -> None:
    config = run_config({**DATA, "device": "cuda:0, cuda:3"})
    assert (config.device, config.devices) == ("cuda:0,cuda:3", ("cuda:0", "cuda:3"))
    old = RunConfig.model_validate(DATA)
    assert (old.devices, old.parallelism) == (("auto",), "replicate")
