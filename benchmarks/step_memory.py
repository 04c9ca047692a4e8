"""Peak memory of a SequenceMatch step on SmolLM2, with our head and with full logits.

`python -m benchmarks.step_memory` (needs `make model`): 8 rows of 512 positions, half of them
demonstrations and half sampled answers, LoRA, the objective and the passes of a run, one optimiser
step. The other variant differs in one thing: the head makes the logits of all visited states of a
pass and leaves Q and V to autograd. Each runs in a process of its own; both print the same loss.

glibc keeps freed blocks below some megabytes for later, and in how many pieces is a matter of luck:
it moves the peak by gigabytes. So each variant is measured twice: with such blocks given back at
once, which takes half as long again and tells what the step needs, and as trainers run.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import torch
from torch import Tensor

from benchmarks.paired import Figure, peak_resident_bytes, show
from benchmarks.random_rows import answers, demonstration, rollout
from seqmatch.config import AdapterConfig, OptimizationConfig
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.gradients import accumulate_gradients
from seqmatch.objectives import SequenceMatchConfig
from seqmatch.optimization import apply_gradients, make_optimizer
from seqmatch.policy import Policy, load_policy
from seqmatch.run_start import pass_positions
from seqmatch.soft_q import SoftHead

ROWS, POSITIONS, A_MISTAKE_EVERY = 8, 512, 100
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Blocks of a megabyte and more are mapped, and unmapped when they are freed."""


class FullLogitsHead(SoftHead):
    """Q and V the plain way: all logits, then autograd."""

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        actions: Tensor,
        can_delete: Tensor,
        is_action: Tensor,
        backspace_row: Tensor,
        temperatures: tuple[float, ...],
    ) -> tuple[tuple[Tensor, Tensor], ...]:
        """Returns (Q, V), at temperature 1."""
        backspace = (input @ backspace_row).masked_fill(~can_delete, -torch.inf)
        logits = torch.cat([input @ self.weight.t(), backspace[:, None]], dim=1)
        chosen_q = logits.gather(1, actions[:, None])[:, 0].where(is_action, 0.0)
        return ((chosen_q, logits.logsumexp(1)),) * len(temperatures)


def policy_with(head: str) -> Policy:
    """Loads SmolLM2 with a new adapter, and one of the two heads."""
    policy = load_policy(
        "smollm2-135m-instruct",
        AdapterConfig(),
        True,
        seed=0,
        device="cpu",
        models_dir=DEFAULT_DATA_DIR / "models",
    )
    if head == "full":
        policy.head.__class__ = FullLogitsHead
    return policy


def step(head: str) -> tuple[float, float, int, int]:
    """Takes one step; returns loss, gradient norm, the bytes held at most and before it."""
    policy = policy_with(head)
    space, every = policy.space, A_MISTAKE_EVERY
    drawn = answers(ROWS, POSITIONS, space, seed=0)
    config = OptimizationConfig()
    optimizer = make_optimizer(policy.trainable_parameters(), config)
    before = int(psutil.Process().memory_info().rss)
    found = accumulate_gradients(
        policy,
        SequenceMatchConfig(),
        [demonstration(answer, space, every) for answer in drawn[: ROWS // 2]],
        [rollout(answer, space, every) for answer in drawn[ROWS // 2 :]],
        beta=0.5,
        max_positions=pass_positions(policy),
    )
    outcome = apply_gradients(optimizer, found.loss, config.learning_rate, config.max_grad_norm)
    return found.loss, outcome.grad_norm, peak_resident_bytes(), before


def figures() -> Iterator[Figure]:
    """Measures both variants."""
    loss, norm, peak, before = _measured("ours", GIVEN_BACK)
    other_loss, other_norm, other_peak, _ = _measured("full", GIVEN_BACK)
    kept, other_kept = (_measured(head, {})[2] for head in ("ours", "full"))
    error = max(abs(loss / other_loss - 1.0), abs(norm / other_norm - 1.0))
    yield Figure(
        row="1",
        what=f"peak of a SequenceMatch step, SmolLM2-135M LoRA, {ROWS} x {POSITIONS}",
        measured=f"{peak / 1e9:.2f} GB against {other_peak / 1e9:.2f} GB with full logits, of "
        f"which {before / 1e9:.2f} GB before the step; with freed blocks kept by the allocator, as "
        f"trainers run, {kept / 1e9:.2f} GB against {other_kept / 1e9:.2f} GB",
        goal="less",
        is_met=peak < other_peak,
        equality=f"loss and gradient norm, off by {error:.0e}",
    )


def _measured(head: str, settings: dict[str, str]) -> tuple[float, float, int, int]:
    command = [sys.executable, "-m", "benchmarks.step_memory", "--head", head]
    environment = {**os.environ, **settings}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    loss, norm, peak, before = done.stdout.split()
    return float(loss), float(norm), int(peak), int(before)


def main() -> int:
    """Prints the row, or the four numbers of one variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--head", choices=("ours", "full"), help="only this variant")
    given = parser.parse_args()
    if given.head:
        torch.set_num_threads(os.cpu_count() or 1)  # memory is no question of threads
        print(*step(given.head))
    else:
        show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
