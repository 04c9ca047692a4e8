"""Runs in half precision, and with blocks that run again in the backward pass."""

from pathlib import Path
from typing import Any

import pytest

from seqmatch.reporting import COMPUTING
from tests.short_runs import Recorder, train_short

SHORT: dict[str, Any] = {
    "objective": {"target_decay": 0.8},
    "optimization": {"num_steps": 8},
    "evaluation": {"every": 8, "num_prompts": 6},
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """The run in float32 that keeps everything, which is what "auto" means on a CPU."""
    reporter = Recorder()
    train_short(tmp_path_factory.mktemp("plain"), reporter, SHORT)
    return reporter


def computed(reporter: Recorder) -> str:
    return dict(reporter.events)[COMPUTING]


def test_blocks_that_run_again_give_the_same_curves(plain: Recorder, tmp_path: Path) -> None:
    reporter = Recorder()
    train_short(tmp_path, reporter, {**SHORT, "gradient_checkpointing": True})

    assert reporter.repeatable().keys() == plain.repeatable().keys()
    assert reporter.repeatable() == pytest.approx(plain.repeatable(), rel=1e-5, abs=1e-6)
    assert computed(plain).startswith("on cpu, in float32, in passes of at most")
    assert computed(reporter) != computed(plain), "larger passes fit"


def test_packed_rows_give_the_same_curves(plain: Recorder, tmp_path: Path) -> None:
    reporter = Recorder()
    train_short(tmp_path, reporter, {**SHORT, "packing": True})

    assert reporter.repeatable().keys() == plain.repeatable().keys()
    assert reporter.repeatable() == pytest.approx(plain.repeatable(), rel=1e-5, abs=1e-6)
    assert ", packed (off padded rows by " in computed(reporter)


def test_half_precision_trains_and_is_measured_in_full(plain: Recorder, tmp_path: Path) -> None:
    reporter = Recorder()
    train_short(tmp_path, reporter, {**SHORT, "precision": "bfloat16"})

    assert computed(reporter).startswith("on cpu, in bfloat16,")
    assert reporter.codes == plain.codes
    before = {key: value for key, value in plain.repeatable().items() if key[1] == 0}
    assert before
    assert {key: reporter.values[key] for key in before} == before
    loss, exact = (each.values["train/loss", 8] for each in (reporter, plain))
    learned = plain.values["train/loss", 1] - exact
    assert 0 < abs(loss - exact) < abs(learned), "rounding is less than what was learned"
