"""What the whole SequenceMatch loop costs against fine-tuning, and how much of it is sampling.

Rows 5 and 6 of the table. Both run the product's own loop, with its reports, on the same
demonstrations in the same order. SequenceMatch samples `ROLLOUTS` answers every so many steps and
draws each of them `REUSE` times on average before the next ones replace them; a round of the
measurement is one such span of steps. The share of sampling is what the run itself reports of its
phases. Its A/A control is the share in every other round over that in the rest.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.paired import Figure, Spent, control_of, measure, ratios_by, ratios_of
from benchmarks.product_runs import begin_on_random_tokens
from benchmarks.random_rows import PROMPT
from benchmarks.step_cost import Trained
from seqmatch import packaged_model
from seqmatch.base_models import BASE_MODELS
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.reporting import NullReporter
from seqmatch.run_steps import TrainingRun
from seqmatch.training import take_step
from seqmatch.trajectory_values import standing_times

REUSE = 4


@dataclass(frozen=True)
class Size:
    """What is trained, and how long it is looked at."""

    base_model: str
    adapter: str
    batch_size: int
    """Demonstrations of a step; SequenceMatch has as many sampled answers beside them."""
    num_positions: int
    """Of each row, prompt included."""
    num_rollouts: int
    """Sampled at once."""
    rounds: int
    goal: float
    """The cost that row 5 allows."""

    @property
    def every(self) -> int:
        """Steps from one sampling to the next."""
        return REUSE * self.num_rollouts // self.batch_size

    @property
    def words(self) -> str:
        """For the table."""
        return (
            f"{self.base_model}, {self.adapter}, steps of {self.batch_size} x "
            f"{self.num_positions}, {self.num_rollouts} answers every {self.every} steps"
        )


def sizes(on_gpu: bool) -> list[Size]:
    """The small models of the table, and SmolLM2 where it is prepared."""
    small = [name for name in ("byte-llama-tiny", "byte-llama-small") if name in BASE_MODELS]
    found = [Size(name, "full", 8, 64, 32, 9, 2.6 if on_gpu else 2.3) for name in small]
    if not packaged_model.is_prepared(DEFAULT_DATA_DIR / "models"):
        return found
    if on_gpu:
        return [*found, Size("smollm2-135m-instruct", "lora", 8, 512, 32, 7, 2.6)]
    return [*found, Size("smollm2-135m-instruct", "lora", 8, 20, 8, 5, 2.8)]


class Profile(NullReporter):
    """Adds up the seconds of the phases as a run reports them."""

    def __init__(self) -> None:
        """Starts with none."""
        self.seconds: dict[str, float] = {}
        self._step = 0

    def begin(self, run: TrainingRun) -> None:
        """Starts again from this moment."""
        run.throughput.take()
        self.seconds, self._step = {}, run.state.step

    def end(self, run: TrainingRun) -> None:
        """Adds what the run has not reported yet."""
        for phase, seconds in run.throughput.phases.take().items():
            self._add(phase, seconds)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the phases since the last report."""
        num_steps, self._step = step - self._step, step
        elapsed = num_steps / values["system/steps_per_second"]
        for name, value in values.items():
            if name.startswith("system/share_"):
                self._add(name.removeprefix("system/share_"), value * elapsed)

    def _add(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds


class Loop:
    """A run that goes on by whole spans of steps, with the phases of each span."""

    def __init__(self, size: Size, objective: Mapping[str, Any], folder: Path, device: str) -> None:
        """Begins the run, where its sampling is about to be due."""
        self.size = size
        self.profile = Profile()
        self.phases: list[dict[str, float]] = []
        settings: Mapping[str, Any] = {
            "base_model": size.base_model,
            "data": {"max_tokens": 4 * size.num_positions},
            "objective": objective,
            "adapter": {"kind": size.adapter},
            # So little that the policy, and with it the length of its answers, stays as it is.
            "optimization": {"batch_size": size.batch_size, "learning_rate": 1e-5},
            "device": device,
        }
        num_rows = REUSE * size.num_rollouts
        self.run = begin_on_random_tokens(
            settings, num_rows, size.num_positions, folder, self.profile
        )
        self.run.state.step = size.every

    def go_on(self) -> None:
        """Takes the steps of one span."""
        self.profile.begin(self.run)
        for _ in range(self.size.every):
            take_step(self.run)
        self.profile.end(self.run)
        self.phases.append(self.profile.seconds)

    def texts(self) -> list[tuple[int, ...]]:
        """Returns the demonstrations of the next batch, mistakes and corrections left out."""
        space = self.run.state.policy.space
        return [
            (*row.prompt_ids, *(row.pushes[time] for time in standing_times(row.pushes, space)))
            for row in self.run.draw_batch().demonstrated
        ]

    def tokens_per_rollout(self) -> float:
        """Returns how many tokens its newest answers have on average."""
        buffer, space = self.run.state.buffer, self.run.state.policy.space
        held = buffer.sample(len(buffer), np.random.default_rng(0))
        return float(
            np.mean([len(row.pushes) - row.pushes.count(space.backspace_id) for row in held])
        )


def figures(device: str) -> Iterator[Figure]:
    """Measures each size: row 5 and row 6."""
    for size in sizes(on_gpu=device != "cpu"):
        with tempfile.TemporaryDirectory() as folder:
            yield from both_rows(size, Path(folder), device)


def both_rows(size: Size, folder: Path, device: str) -> Iterator[Figure]:
    """Rows 5 and 6 at one size; the runs have their folders in `folder`."""
    sft = Loop(size, {"kind": "sft", "backspace": False}, folder / "sft", device)
    matching = Loop(size, _sequence_match(size), folder / "sequence_match", device)
    policy = sft.run.state.policy
    error = Trained.with_policy(policy, size.batch_size, size.num_positions).off_by()
    sft.go_on()  # warms up
    matching.go_on()
    both = zip(sft.texts(), matching.texts(), strict=True)
    num_equal = sum(one == other for one, other in both)
    variants = {"sft": sft.go_on, "sequence_match": matching.go_on}
    found = measure(variants, "sft", rounds=size.rounds, warm_up=0)
    cpu = ratios_by(found, "sft", "cpu")["sequence_match"]
    wall = ratios_by(found, "sft", "wall")["sequence_match"]
    counted = ratios_by(found, "sft")
    relative = matching.tokens_per_rollout() / (size.num_positions - PROMPT)
    yield Figure(
        row="5",
        what=f"SequenceMatch loop with sampling, {size.words}",
        measured=f"{cpu} of fine-tuning in CPU time, {wall} in wall time; answers {relative:.2f} "
        "times as long as demonstrations",
        goal=f"<= {size.goal:.2f}",
        is_met=counted["sequence_match"].median <= size.goal,
        is_clear=counted["sequence_match"].is_clear_of(size.goal),
        equality=f"{num_equal} of {size.batch_size} demonstrations of a batch the same in both; "
        f"nats per token of fine-tuning and transformers', off by {error:.0e}",
        control=control_of(counted),
    )
    yield share_of_sampling(size, matching.phases[-size.rounds :], found["sequence_match"])


def share_of_sampling(
    size: Size, phases: Sequence[Mapping[str, float]], spent: Sequence[Spent]
) -> Figure:
    """Row 6, from the phases of each span and what the span took by another clock."""
    profiled = [sum(seconds.values()) for seconds in phases]
    sampling = [seconds["rollout"] for seconds in phases]
    share = ratios_of({"sampling": sampling, "all": profiled}, "all")["sampling"]
    by_round = np.array(sampling) / np.array(profiled)
    wall = np.array([each.wall for each in spent])
    goal = 0.25 if torch.cuda.is_available() else 0.30
    others = {name: sum(each[name] for each in phases) for name in phases[0] if name != "rollout"}
    largest = sorted(others, key=lambda name: -others[name])[:3]
    words = ", ".join(f"{name} {others[name] / sum(profiled):.0%}" for name in largest)
    return Figure(
        row="6",
        what=f"share of sampling in the wall time of the same loop, {size.words}",
        measured=f"{share.median:.1%} [{share.low:.1%}, {share.high:.1%}]; {words}",
        goal=f"<= {goal:.0%}",
        is_met=share.median <= goal,
        is_clear=share.is_clear_of(goal),
        equality="the phases add up to the wall time, off by "
        f"{np.abs(np.array(profiled) / wall - 1.0).max():.0e}",
        control=float(np.median(by_round[1::2]) / np.median(by_round[::2])),
    )


def _sequence_match(size: Size) -> Mapping[str, Any]:
    return {
        "kind": "sequence_match",
        "warmup_fraction": 0.0,
        "corruption": {"rate": 0.02},
        "rollouts": {
            "every": size.every,
            "batch_size": size.num_rollouts,
            "buffer_size": size.num_rollouts,
            "max_new_tokens": size.num_positions - PROMPT,
        },
    }
