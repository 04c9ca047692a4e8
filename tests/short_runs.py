"""Runs of a few steps on the small model, and what they report, for tests of the loop."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqmatch.config import RunConfig
from seqmatch.config_flags import merge_settings, run_config
from seqmatch.examples import EXAMPLES
from seqmatch.reporting import COMPUTING, Control, NullReporter, Trace
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.training import TrainResult, train
from seqmatch.types import Demonstration

SHA = "d" * 64
DEMONSTRATIONS = EXAMPLES["arithmetic"].load()[:120]
SETTINGS: dict[str, Any] = {
    "data": {"dataset": SHA, "max_tokens": 32},
    "objective": {
        "kind": "sequence_match",
        "warmup_fraction": 0.2,
        "corruption": {"rate": 0.3},
        "rollouts": {"every": 4, "batch_size": 6, "buffer_size": 9, "max_new_tokens": 4},
    },
    "adapter": {"kind": "full"},
    "optimization": {"num_steps": 20, "batch_size": 8, "warmup_steps": 3},
    "evaluation": {"every": 10, "num_prompts": 6, "max_new_tokens": 4, "num_samples": 2},
    "checkpoints": {"every": 5},
    "device": "cpu",
}
SFT = {"objective": {"kind": "sft", "backspace": False}}


class Killed(BaseException):
    """Stands for the death of the process: nothing in the loop may catch it."""


class Recorder(NullReporter):
    """Keeps what is reported; at a step it gives an answer or dies."""

    def __init__(self, at_step: int = -1, answer: Control | None = None) -> None:
        self.at_step, self.answer = at_step, answer
        self.values: dict[tuple[str, int], float] = {}
        self.traces: dict[int, Sequence[Trace]] = {}
        self.events: list[tuple[str, str]] = []
        self.artifacts: list[tuple[str, Path]] = []

    def progress(self, step: int, num_steps: int) -> Control:
        if step != self.at_step:
            return Control.GO_ON
        if self.answer is None:
            raise Killed
        return self.answer

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= {(name, step): value for name, value in values.items()}

    def samples(self, step: int, traces: Sequence[Trace]) -> None:
        self.traces[step] = traces

    def event(self, level: str, code: str, message: str) -> None:
        self.events.append((code, message))

    def artifact(self, kind: str, path: Path) -> None:
        self.artifacts.append((kind, path))

    @property
    def codes(self) -> list[str]:
        """Of the events, without the one that every start reports."""
        return [code for code, _ in self.events if code != COMPUTING]

    def repeatable(self) -> dict[tuple[str, int], float]:
        return {key: value for key, value in self.values.items() if "system/" not in key[0]}


def config_short(changes: Mapping[str, Any] | None = None) -> RunConfig:
    return run_config(merge_settings(SETTINGS, changes or {}))


def train_short(
    folder: Path,
    reporter: NullReporter,
    changes: Mapping[str, Any] | None = None,
    demonstrations: Sequence[Demonstration] = DEMONSTRATIONS,
) -> TrainResult:
    return train(
        config_short(changes),
        demonstrations,
        run_dir=folder,
        models_dir=folder / "models",
        reporter=reporter,
        dataset_sha256=SHA,
    )


def begin_short(folder: Path, reporter: NullReporter) -> TrainingRun:
    return begin(
        config_short(),
        DEMONSTRATIONS,
        run_dir=folder,
        models_dir=folder / "models",
        allowed_models=(),
        reporter=reporter,
        dataset_sha256=SHA,
        metrics_csv=None,
    )
