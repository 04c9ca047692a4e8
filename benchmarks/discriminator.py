"""What a discriminator adds to a training step of `byte-llama-small`, batches of 64.

`python -m benchmarks.discriminator`: the policy's step is that of SequenceMatch today, with the
backspace action: one masked pass over 64 demonstrations with mistakes and 64 rollouts of the
policy, the loss, its gradient, and AdamW. The discriminator reads the same pass's hidden states:
its part is features, h, the cross entropy of all actions, its gradient, and Adam. Both parts are
timed in every step, one after the other, so that whatever else the machine does falls on both; the
sampling of rollouts, which every such step needs as well, is timed apart.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from seqmatch.config import AdapterConfig, OptimizationConfig
from seqmatch.corruption import corrupt
from seqmatch.discriminators import (
    Discriminator,
    PairFeatures,
    WeightedScores,
    binary_cross_entropy,
    gradient_penalty,
    interpolated,
    pair_features,
    token_weights,
)
from seqmatch.examples.arithmetic import generate
from seqmatch.objectives import CorruptionConfig, RolloutConfig, SequenceMatchConfig
from seqmatch.objectives.dispatch import objective_loss
from seqmatch.optimization import apply_gradients, make_optimizer
from seqmatch.policy import Policy, action_space
from seqmatch.rollouts import sample_rollouts
from seqmatch.scratch_model import byte_llama, byte_tokenizer
from seqmatch.seeding import generator
from seqmatch.single_pass import build_batch
from seqmatch.text import tokenize_demonstration
from seqmatch.types import SinglePassBatch, Trajectory

BATCH = 64
DISCOUNT = 0.99
VARIANTS = ("default", "airl", "spectral norm", "gradient penalty")


@dataclass(frozen=True)
class Timed:
    """Medians over the steps, in milliseconds and as shares of policy and discriminator."""

    policy_ms: float
    discriminator_ms: float
    share: float
    share_with_sampling: float


def new_policy() -> Policy:
    """Returns byte-llama-small with random weights and the backspace action."""
    tokenizer = byte_tokenizer()
    lm = byte_llama(seed=0)
    space = action_space(tokenizer, lm.config.vocab_size, True)
    return Policy(
        lm, tokenizer, space, base_model="byte-llama-small", adapter=AdapterConfig(kind="full")
    )


def demonstrations(policy: Policy) -> list[Trajectory]:
    """Returns the first 64 rows of the arithmetic example, with mistakes."""
    rng = generator(0, "benchmark")
    rows = [
        tokenize_demonstration(policy.tokenizer, row, index)
        for index, row in enumerate(generate()[:BATCH])
    ]
    return [corrupt(row, policy.space, CorruptionConfig(), None, rng, 1024) for row in rows]


class Step:
    """One policy and one discriminator, trained in turn on the same batch."""

    def __init__(self, policy: Policy, batch: SinglePassBatch, variant: str) -> None:
        """Makes both, and their optimisers."""
        self.policy, self.batch, self.variant = policy, batch, variant
        self.objective = SequenceMatchConfig()
        self.optimizer = make_optimizer(policy.trainable_parameters(), OptimizationConfig())
        self.discriminator = Discriminator.of(
            policy,
            form="airl" if variant == "airl" else "logit",
            has_spectral_norm=variant == "spectral norm",
        )
        self.adam = torch.optim.Adam(
            self.discriminator.parameters(), lr=1e-3, betas=(0.0, 0.999), fused=True
        )
        self.draws = torch.Generator().manual_seed(0)

    def run(self) -> tuple[float, float]:
        """Takes one step of each; returns the seconds of the policy's and of the other's."""
        began = time.perf_counter()
        hidden = self.policy.slot_states(self.batch)
        values = self.policy.state_action_values(self.batch, hidden=hidden)
        data, rollouts = values.rows(slice(0, BATCH)), values.rows(slice(BATCH, None))
        loss = objective_loss(self.objective, data, rollouts, 0.0).loss
        torch.autograd.backward(loss)
        apply_gradients(self.optimizer, loss.item(), 1e-6, 1.0)
        between = time.perf_counter()
        features = pair_features(self.policy, self.batch, hidden=hidden, values=values)
        self._update_discriminator(features)
        return between - began, time.perf_counter() - between

    def _update_discriminator(self, features: PairFeatures) -> None:
        h = self.discriminator(features)
        sides = [
            WeightedScores(h[rows], token_weights(features.is_action[rows], DISCOUNT))
            for rows in (slice(0, BATCH), slice(BATCH, None))
        ]
        loss = binary_cross_entropy(*sides)
        if self.variant == "gradient penalty":
            embedded = self.discriminator.embedded(features)
            num_data = int(features.is_action[:BATCH].sum())
            place = interpolated(embedded[:num_data], embedded[num_data:], self.draws)
            loss = loss + 10.0 * gradient_penalty(self.discriminator.score, place)
        torch.autograd.backward(loss)
        apply_gradients(self.adam, loss.item(), 1e-3, 1.0)


def timed(sample: Callable[[], list[Trajectory]]) -> tuple[list[Trajectory], float]:
    """Returns what was sampled the second time, and the seconds it took."""
    sample()
    began = time.perf_counter()
    return sample(), time.perf_counter() - began


def measure(step: Step, num_steps: int, sampling: float) -> Timed:
    """Returns the medians over steps; the first five are not counted."""
    times = [step.run() for _ in range(num_steps + 5)][5:]
    shares = [other / (own + other) for own, other in times]
    with_sampling = [other / (own + other + sampling) for own, other in times]
    return Timed(
        policy_ms=1000 * statistics.median(own for own, _ in times),
        discriminator_ms=1000 * statistics.median(other for _, other in times),
        share=statistics.median(shares),
        share_with_sampling=statistics.median(with_sampling),
    )


def main() -> int:
    """Prints a row for each variant, and what else the machine was doing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps a variant")
    num_steps = parser.parse_args().steps
    policy = new_policy()
    data = demonstrations(policy)
    prompts = [row.prompt_ids for row in data]
    config = RolloutConfig(max_new_tokens=16)
    sampled, sampling = timed(lambda: sample_rollouts(policy, prompts, config, seed=0, step=0))
    batch = build_batch([*data, *sampled], policy.space)
    print(
        f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} used"
    )
    print(f"{int(batch.is_slot.sum())} input positions, {int(batch.is_action.sum())} actions")
    print(f"sampling {BATCH} rollouts: {1000 * sampling:.0f} ms")
    for variant in VARIANTS:
        found = measure(Step(policy, batch, variant), num_steps, sampling)
        print(
            f"{variant:17} policy {found.policy_ms:6.1f} ms, discriminator "
            f"{found.discriminator_ms:5.2f} ms: {found.share:5.1%} of the step, "
            f"{found.share_with_sampling:5.1%} with sampling"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
