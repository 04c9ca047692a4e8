"""Supervised fine-tuning beside TRL's SFTTrainer: tokens per second, and the same loss curve.

`python -m benchmarks.trl_sft`: row 13 of the table. Both train the same weights on the same rows in
the same order with AdamW, float32, one device and as many threads; TRL's checkpointing of
activations and its half precision are off, ours has neither. All rows are equally long, so that a
mean over tokens (TRL) and one over sequences (ours) have the same direction; nothing is clipped.
Ours is the product's own loop with its reports; theirs is timed from the first step to the last, in
CPU seconds, on a GPU in wall seconds.

TRL is no dependency of SeqMatch: `make bench` installs it beside, for this figure alone.
"""

import argparse
import copy
import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from benchmarks.paired import CONTROL, Figure, control_of, ratios_of, show
from benchmarks.product_runs import begin_run
from seqmatch import packaged_model
from seqmatch.batches import draw_indices
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.run_steps import TrainingRun
from seqmatch.types import Demonstration, TokenizedDemonstration

LETTERS = "abcdefghijklmnopqrstuvwxyz     "
NUM_ROWS = 400


@dataclass(frozen=True)
class Size:
    """What is trained, and for how long."""

    words: str
    base_model: str
    adapter: str
    batch_size: int
    num_letters: int
    num_steps: int
    rounds: int
    learning_rate: float


SIZES = (
    Size("byte-llama-small, all weights, 32 x 64", "byte-llama-small", "full", 32, 56, 20, 7, 1e-3),
    Size("SmolLM2-135M, LoRA, 4 rows", "smollm2-135m-instruct", "lora", 4, 96, 3, 3, 1e-4),
)


class Ours:
    """A run of the product, step by step."""

    def __init__(self, size: Size, folder: Path) -> None:
        """Begins a run on random rows of one length."""
        self.run = _begin(size, folder)
        self.rows = _drawn(self.run, size)

    def train(self, num_steps: int) -> float:
        """Takes steps as the training loop does; returns the seconds."""
        began = _now()
        for _ in range(num_steps):
            self.run.update(self.run.draw_batch())
            self.run.report_if_due()
            self.run.ask()
        return _now() - began

    def curve(self, num_steps: int) -> list[float]:
        """Returns the loss of each step, in nats per token."""
        found = []
        for _ in range(num_steps):
            self.run.state.means.take()
            self.run.update(self.run.draw_batch())
            found.append(self.run.state.means.take()["train/nll"])
        return found


class Theirs:
    """TRL's trainer on the same model and rows."""

    def __init__(self, size: Size, run: TrainingRun, rows: Sequence[TokenizedDemonstration]):
        """Takes a copy of the run's model."""
        self.size, self.rows = size, rows
        self.lm = copy.deepcopy(run.state.policy.lm)
        self.tokenizer = run.state.policy.tokenizer

    def train(self, num_steps: int) -> tuple[float, list[float]]:
        """Trains the first rows; returns seconds without the set-up, and the loss by step."""
        from transformers import PrinterCallback, TrainerCallback  # noqa: PLC0415  # as below
        from trl import SFTConfig, SFTTrainer  # noqa: PLC0415  # no dependency

        seconds: list[float] = []
        losses: list[float] = []

        class Recorded(SFTTrainer):  # type: ignore[misc]  # what it logs is rounded
            def compute_loss(self, *given: Any, **named: Any) -> Any:
                found = super().compute_loss(*given, **named)
                losses.append((found[0] if isinstance(found, tuple) else found).item())
                return found

        class Clock(TrainerCallback):  # type: ignore[misc]  # transformers carries no types here
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                seconds.append(_now())

            def on_train_end(self, *_: Any, **__: Any) -> None:
                seconds.append(_now())

        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(
                output_dir=folder,
                max_steps=num_steps,
                per_device_train_batch_size=self.size.batch_size,
                learning_rate=self.size.learning_rate,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                max_grad_norm=0.0,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=not torch.cuda.is_available(),
                train_sampling_strategy="sequential",
                logging_steps=1,
                report_to=[],
                save_strategy="no",
                disable_tqdm=True,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            )
            trainer = Recorded(
                model=self.lm,
                args=settings,
                train_dataset=_dataset(self.rows),
                processing_class=self.tokenizer,
                callbacks=[Clock()],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return seconds[-1] - seconds[0], losses


def figures() -> Iterator[Figure]:
    """Measures each size; nothing where TRL is not installed."""
    if importlib.util.find_spec("trl") is None:
        print("row 13 is left out: TRL is not installed (see benchmarks/requirements.txt)")
        return
    for size in SIZES:
        models = DEFAULT_DATA_DIR / "models"
        if size.base_model == "byte-llama-small" or packaged_model.is_prepared(models):
            yield _figure(size)


def _figure(size: Size) -> Figure:
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(size, Path(folder) / "curve")
        theirs = Theirs(size, ours.run, ours.rows)
        their_curve = theirs.train(size.num_steps)[1]
        off_by = float(np.abs(np.subtract(ours.curve(size.num_steps), their_curve)).max())
        seconds: dict[str, list[float]] = {"TRL": [], CONTROL: [], "ours": []}
        for number in range(size.rounds):
            order = ["TRL", "ours", CONTROL]
            for name in order[number % 3 :] + order[: number % 3]:
                took = ours.train if name == "ours" else lambda steps: theirs.train(steps)[0]
                seconds[name].append(took(size.num_steps))
    ratios = ratios_of(seconds, "TRL")
    speed = 1.0 / ratios["ours"].median
    return Figure(
        row="13",
        what=f"fine-tuning, tokens per second of TRL's SFTTrainer, {size.words}",
        measured=f"{speed:.2f}x [{1 / ratios['ours'].high:.2f}, {1 / ratios['ours'].low:.2f}]",
        goal=">= 1.00x",
        is_met=speed >= 1.0,
        is_clear=ratios["ours"].is_clear_of(1.0),
        equality=f"loss of each of {size.num_steps} steps, off by {off_by:.0e} nats per token",
        control=control_of(ratios),
    )


def _begin(size: Size, folder: Path) -> TrainingRun:
    rng = np.random.default_rng(0)

    def letters(number: int) -> str:
        return "".join(rng.choice(list(LETTERS), size=number))

    rows = [
        Demonstration(f"{at:06d}:", letters(size.num_letters), str(at)) for at in range(NUM_ROWS)
    ]
    settings: Mapping[str, Any] = {
        "base_model": size.base_model,
        "data": {"heldout_fraction": 0.05},
        "objective": {"kind": "sft", "backspace": False},
        "adapter": {"kind": size.adapter},
        "optimization": {
            "batch_size": size.batch_size,
            "learning_rate": size.learning_rate,
            "max_grad_norm": 1e6,
        },
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "precision": "float32",
    }
    return begin_run(settings, rows, folder)


def _now() -> float:
    """CPU seconds of this process; where a GPU works, wall seconds when it has finished."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _drawn(run: TrainingRun, size: Size) -> list[TokenizedDemonstration]:
    """The rows in the order in which the run draws them, all of them cut to one length."""
    rows = run.rows.train
    at = draw_indices(len(rows), 0, size.num_steps * size.batch_size, run.config.seed)
    return [rows[index] for index in at]


def _dataset(rows: Sequence[TokenizedDemonstration]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "input_ids": [*row.prompt_ids, *row.completion_ids],
                "labels": [-100] * len(row.prompt_ids) + list(row.completion_ids),
            }
            for row in rows
        ]
    )


def main() -> int:
    """Prints the rows."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
