"""What the discriminator takes of a step of adversarial imitation, in the product's own loop.

`python -m benchmarks.discriminator`: runs of `byte-llama-small` on `arithmetic` as the form
suggests them, batches of 64 demonstrations and 64 answers, rounds of 256 every 4 steps. Timed in
every step are the step (drawing, forward, backward, update), within it all that the discriminator
does (features, its updates, h for the rewards), and apart from it the sampling of rounds. Shares
are of a step without sampling, and with its share of sampling. A second adapter needs a pretrained
model: it is measured with `--smollm2`, where `make model` has prepared that.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from seqmatch.config_flags import DEFAULT_DATA_DIR, merge_settings, run_config
from seqmatch.discriminators.player import DiscriminatorPlayer
from seqmatch.examples import EXAMPLES
from seqmatch.reporting import NullReporter
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "default again": {},
    "AIRL": {"form": "airl"},
    "spectral norm": {"spectral_norm": True},
    "gradient penalty": {"gradient_penalty": 10.0},
    "two updates": {"updates": 2},
    "history of a half": {"history_share": 0.5},
}
"""The second is the first once more: what their figures differ by is the machine's."""
WARM_UP = 8


@dataclass(frozen=True)
class Timed:
    """Medians over the steps, in milliseconds and as shares."""

    step_ms: float
    discriminator_ms: float
    share: float
    share_with_sampling: float


class _Watch:
    """Adds up the seconds of the calls of some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns the function, its calls timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            result = function(*arguments, **named)
            self.seconds += time.perf_counter() - began
            return result

        return timed


def started(example: str, discriminator: Mapping[str, Any], folder: Path) -> TrainingRun:
    """Returns a run of a bundled example behind its imitation warm-up."""
    changes = {
        "data": {"dataset": "0" * 64},
        "objective": {"warmup_fraction": 0.0, "discriminator": {"gate": 1.0, **discriminator}},
        "evaluation": {"probe": False},
        "device": "cpu",
    }
    run = begin(
        run_config(merge_settings(EXAMPLES[example].suggested["adversarial"], changes)),
        EXAMPLES[example].load(),
        run_dir=folder,
        models_dir=DEFAULT_DATA_DIR / "models",
        allowed_models=(),
        reporter=NullReporter(),
        dataset_sha256="0" * 64,
        metrics_csv=None,
    )
    run.state.step = 1
    return run


def measure(run: TrainingRun, num_steps: int) -> Timed:
    """Returns the medians over steps; the first ones are not counted."""
    player = run.state.player
    if not isinstance(player, DiscriminatorPlayer):
        raise TypeError("a run without a discriminator")
    watch = _Watch()
    player.learn = watch.timing(player.learn)  # type: ignore[method-assign]
    player.judge = watch.timing(player.judge)  # type: ignore[method-assign]
    steps, own, sampling = [], [], []
    for _ in range(num_steps + WARM_UP):
        began = time.perf_counter()
        run.refresh_rollouts()
        sampled = time.perf_counter()
        watch.seconds = 0.0
        run.update(run.draw_batch())
        sampling.append(sampled - began)
        steps.append(time.perf_counter() - sampled)
        own.append(watch.seconds)
    steps, own, sampling = steps[WARM_UP:], own[WARM_UP:], sampling[WARM_UP:]
    mean_sampling = statistics.mean(sampling)
    return Timed(
        step_ms=1000 * statistics.median(steps),
        discriminator_ms=1000 * statistics.median(own),
        share=statistics.median(one / step for one, step in zip(own, steps, strict=True)),
        share_with_sampling=statistics.median(
            one / (step + mean_sampling) for one, step in zip(own, steps, strict=True)
        ),
    )


def main() -> int:
    """Prints a row for each variant, and what else the machine was doing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps a variant")
    parser.add_argument("--smollm2", action="store_true", help="LoRA on the instructions instead")
    given = parser.parse_args()
    variants = dict(VARIANTS)
    if given.smollm2:
        variants = {"default": {}, "second adapter": {"backbone": "adapter"}}
    threads = torch.get_num_threads()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {threads} threads")
    for variant, settings in variants.items():
        with tempfile.TemporaryDirectory() as folder:
            example = "instructions" if given.smollm2 else "arithmetic"
            found = measure(started(example, settings, Path(folder)), given.steps)
        print(
            f"{variant:18} step {found.step_ms:7.1f} ms, discriminator "
            f"{found.discriminator_ms:6.2f} ms: {found.share:5.1%} of the step, "
            f"{found.share_with_sampling:5.1%} with sampling",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
