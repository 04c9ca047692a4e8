"""Batches cut into passes of about one length against one pass padded to the longest row.

Row 15 of the table: gradient and optimiser step of the same rows, whose lengths are log-normal. The
two variants differ in one number, what a pass is taken to cost: at a price that nothing saves, the
batch stays whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.paired import Figure, compare, control_of
from benchmarks.random_rows import PROMPT, answers, demonstration, rollout
from seqmatch.config import AdapterConfig, OptimizationConfig
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.gradients import BatchLoss, accumulate_gradients
from seqmatch.micro_batches import POSITIONS_A_PASS_COSTS, length_passes, num_positions
from seqmatch.objectives import ObjectiveConfig, SequenceMatchConfig, SFTConfig
from seqmatch.optimization import apply_gradients, make_optimizer
from seqmatch.policy import Policy, load_policy
from seqmatch.types import Trajectory

A_MISTAKE_EVERY = 50
WHOLE = 10**9
"""The price of a pass at which a batch is one pass; also the limit that no batch meets."""


@dataclass
class Batch:
    """A policy with its optimiser, and rows of unequal lengths."""

    words: str
    policy: Policy
    objective: ObjectiveConfig
    optimizer: torch.optim.Optimizer
    data: Sequence[Trajectory]
    sampled: Sequence[Trajectory]

    @staticmethod
    def of(
        objective: ObjectiveConfig, num_rows: int, median_length: int, longest: int, device: str
    ) -> "Batch":
        """Draws rows; an objective that samples has half of them as rollouts."""
        adapter = AdapterConfig(kind="full")
        backspace = isinstance(objective, SequenceMatchConfig)
        policy = load_policy(
            "byte-llama-small",
            adapter,
            backspace,
            seed=0,
            device=device,
            models_dir=DEFAULT_DATA_DIR / "models",
        )
        space = policy.space
        drawn = [
            answers(1, length, space, seed=at)[0]
            for at, length in enumerate(unequal_lengths(num_rows, median_length, longest))
        ]
        num_data = num_rows // 2 if backspace else num_rows
        every = A_MISTAKE_EVERY if backspace else WHOLE
        return Batch(
            f"{objective.kind}, byte-llama-small, {num_rows} rows",
            policy,
            objective,
            make_optimizer(policy.trainable_parameters(), OptimizationConfig()),
            [demonstration(each, space, every) for each in drawn[:num_data]],
            [rollout(each, space, every) for each in drawn[num_data:]],
        )

    @property
    def groups(self) -> list[list[int]]:
        """The lengths of demonstrations and rollouts, in positions."""
        return [[num_positions(row) for row in group] for group in (self.data, self.sampled)]

    def gradients(self, cost_of_a_pass: int) -> BatchLoss:
        """Adds the gradient of the batch, cut at this price."""
        return accumulate_gradients(
            self.policy,
            self.objective,
            self.data,
            self.sampled,
            beta=0.5,
            max_positions=WHOLE,
            cost_of_a_pass=cost_of_a_pass,
        )

    def step(self, cost_of_a_pass: int) -> None:
        """One optimiser step."""
        loss = self.gradients(cost_of_a_pass).loss
        apply_gradients(self.optimizer, loss, learning_rate=1e-5, max_grad_norm=1.0)

    def differences(self) -> tuple[float, float]:
        """Returns how far cut and whole are apart: nats per token, and relative of the gradient."""
        losses, gradients = [], []
        for cost in (POSITIONS_A_PASS_COSTS, WHOLE):
            losses.append(self.gradients(cost).terms["train/nll"])
            gradients.append(self._taken_gradient())
        cut, whole = gradients
        return abs(losses[0] - losses[1]), float((cut - whole).norm() / whole.norm())

    def _taken_gradient(self) -> Tensor:
        parameters = self.policy.trainable_parameters().values()
        taken = torch.cat([each.grad.flatten() for each in parameters if each.grad is not None])
        self.optimizer.zero_grad(set_to_none=True)
        return taken.double()


def unequal_lengths(num_rows: int, median: int, longest: int) -> list[int]:
    """Draws log-normal lengths whose coefficient of variation is a little above 0.6."""
    drawn = np.random.default_rng(0).lognormal(np.log(median), 0.7, size=num_rows)
    found: list[int] = np.clip(drawn, PROMPT + 4, longest).astype(int).tolist()
    return found


def figures(
    device: str, num_rows: int = 48, longest: int = 192, rounds: int = 7
) -> Iterator[Figure]:
    """Measures fine-tuning, with plainly causal passes, and SequenceMatch, with masked ones."""
    objectives: tuple[ObjectiveConfig, ...] = (SFTConfig(backspace=False), SequenceMatchConfig())
    for objective in objectives:
        yield _figure(Batch.of(objective, num_rows, 32, longest, device), rounds)


def _figure(batch: Batch, rounds: int) -> Figure:
    nats, relative = batch.differences()
    variants = {
        "padded": partial(batch.step, WHOLE),
        "cut": partial(batch.step, POSITIONS_A_PASS_COSTS),
    }
    ratios = compare(variants, "padded", rounds=rounds, warm_up=1)
    lengths = np.array([length for group in batch.groups for length in group])
    num_passes = len(length_passes(batch.groups, WHOLE))
    goal = 1.6 if torch.cuda.is_available() else 1.4
    ratio = ratios["cut"]
    return Figure(
        row="15",
        what=f"passes of about one length against padding, {batch.words}, "
        f"{lengths.sum():,} positions in all, their coefficient of "
        f"variation {lengths.std() / lengths.mean():.2f}",
        measured=f"{1 / ratio.median:.2f}x [{1 / ratio.high:.2f}, {1 / ratio.low:.2f}] the tokens "
        f"per second, in {num_passes} passes; {lengths.size * lengths.max():,} positions if padded",
        goal=f">= {goal:.1f}x",
        is_met=1 / ratio.median >= goal,
        is_clear=ratio.is_clear_of(1 / goal),
        equality=f"the same rows; nats per token off by {nats:.0e}, gradient by {relative:.0e}",
        control=control_of(ratios),
    )
