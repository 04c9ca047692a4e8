"""What a run does about bad numbers, full disks and rows that do not fit."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmatch.checkpoints import published
from seqmatch.errors import ConfigError, DemonstrationError, DivergedError
from seqmatch.types import Demonstration
from tests.short_runs import DEMONSTRATIONS, Recorder, begin_short, train_short


def test_three_bad_batches_in_a_row_end_the_run_and_change_nothing(tmp_path: Path) -> None:
    reporter = Recorder()
    run = begin_short(tmp_path, reporter)
    weights = run.state.policy.trainable_parameters()
    poisoned = next(iter(weights.values()))
    poisoned.data[:] = math.nan
    others = {name: weight.detach().clone() for name, weight in weights.items()}

    for _ in range(2):
        run.update(run.draw_batch())
    with pytest.raises(DivergedError, match=r"steps \[1, 2, 3\]"):
        run.update(run.draw_batch())

    assert reporter.codes == ["step_skipped"] * 3
    assert run.state.num_updates == 0
    assert all(
        torch.equal(weights[name], old) for name, old in others.items() if old.isfinite().all()
    )
    with pytest.raises(DivergedError, match="not finite after step 3"):
        run.save()
    assert published(tmp_path / "checkpoints") == []


def test_more_than_one_bad_batch_in_a_hundred_ends_the_run(tmp_path: Path) -> None:
    run = begin_short(tmp_path, Recorder())
    run.state.step = 3
    run.state.skipped_steps = [1] * 10
    next(iter(run.state.policy.trainable_parameters().values())).data[:] = math.nan

    with pytest.raises(DivergedError, match=r"10 of 1,000"):
        run.update(run.draw_batch())


def test_a_checkpoint_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    reporter = Recorder()
    run = begin_short(tmp_path, reporter)
    (tmp_path / "checkpoints").touch()  # a file where the folder should be

    run.save()
    run.save()
    with pytest.raises(OSError, match="checkpoints"):
        run.save()

    assert reporter.codes == ["checkpoint_failed"] * 3


@pytest.mark.parametrize(("too_long", "told"), [("drop", "left out and 0 cut"), ("cut", "0 were")])
def test_rows_over_the_limit_are_told(tmp_path: Path, too_long: str, told: str) -> None:
    reporter = Recorder()
    long = [Demonstration(f"{n}+{n}=", "15" * 20, group=f"long {n}") for n in range(30)]
    changes = {"data": {"too_long": too_long}, "optimization": {"num_steps": 1}}

    train_short(tmp_path, reporter, changes, [*DEMONSTRATIONS, *long])

    messages = [message for code, message in reporter.events if code == "rows_over_limit"]
    assert len(messages) == 1
    assert "rows have more than 32 tokens" in messages[0]
    assert told in messages[0]


@pytest.mark.parametrize(
    ("changes", "demonstrations", "error", "message"),
    [
        ({"data": {"max_tokens": 8}}, DEMONSTRATIONS, DemonstrationError, "more than 8 tokens"),
        ({}, DEMONSTRATIONS[:1], DemonstrationError, "different prompts"),
        ({"device": "cuda:7"}, DEMONSTRATIONS, ConfigError, "CUDA devices"),
        ({"adapter": {"kind": "lora"}}, DEMONSTRATIONS, ConfigError, "random weights"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_reason(
    tmp_path: Path,
    changes: dict[str, Any],
    demonstrations: Sequence[Demonstration],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        train_short(tmp_path, Recorder(), changes, demonstrations)
