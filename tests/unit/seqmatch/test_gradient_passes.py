"""Into which passes a batch is cut changes nothing but rounding: loss, terms and gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.corruption import clean_trajectory, corrupt
from seqmatch.gradients import BatchLoss, accumulate_gradients
from seqmatch.micro_batches import length_passes, num_positions
from seqmatch.objectives import (
    CompositeConfig,
    CorruptionConfig,
    DFTConfig,
    ForwardKLOccupancyConfig,
    GEMConfig,
    ObjectiveConfig,
    SequenceMatchConfig,
    SFTConfig,
)
from seqmatch.objectives.dispatch import rollout_config
from seqmatch.policy import Policy
from seqmatch.types import TokenizedDemonstration, Trajectory
from tests.tiny_models import policy_of, tiny_llama

OBJECTIVES: list[ObjectiveConfig] = [
    SFTConfig(),
    DFTConfig(),
    SequenceMatchConfig(),
    CompositeConfig(),
    ForwardKLOccupancyConfig(weights="count_norm"),
    GEMConfig(beta=0.7),
    SequenceMatchConfig(divergence="reverse_kl", alpha=0.5),
    SequenceMatchConfig(divergence="jensen_shannon", mixture_data=0.7, mixture_model=0.3),
    CompositeConfig(forward_kl=0.5, reverse_kl=0.3, jensen_shannon=0.2, backspace_calibration=0.1),
]


def rows_of(policy: Policy, count: int, seed: int) -> list[Trajectory]:
    """Answers of very different lengths, with mistakes."""
    rng = np.random.default_rng(seed)
    config = CorruptionConfig(rate=0.2)
    found = []
    for index in range(count):
        size = int(rng.choice([1, 2, 3, 30]))
        answer = (*rng.integers(0, 9, size=size).tolist(), policy.space.eos_id)
        row = TokenizedDemonstration((1, 2), answer, index)
        found.append(corrupt(row, policy.space, config, None, rng))
    return [*found, clean_trajectory(TokenizedDemonstration((4,), (10,), count), policy.space)]


def found(
    policy: Policy, objective: ObjectiveConfig, sides: Any, max_positions: int, **settings: Any
) -> tuple[BatchLoss, dict[str, Tensor]]:
    policy.zero_grad()
    batch = accumulate_gradients(
        policy, objective, *sides, beta=0.3, max_positions=max_positions, **settings
    )
    gradients = {
        name: weight.grad.clone()
        for name, weight in policy.named_parameters()
        if weight.grad is not None
    }
    return batch, gradients


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda config: str(config.kind))
def test_passes_add_up_to_the_whole_batch(objective: ObjectiveConfig) -> None:
    policy = policy_of(tiny_llama()).double()
    data = rows_of(policy, 11, seed=0)
    rollouts = rows_of(policy, 6, seed=1) if rollout_config(objective) else []
    sizes = [[num_positions(row) for row in side] for side in (data, rollouts)]
    cuts = [length_passes(sizes, limit) for limit in (10**6, 70)]
    assert len(cuts[1]) > len(cuts[0]) > 1  # the lengths alone cut, and memory cuts further
    assert length_passes(sizes, 10**6, cost_of_a_pass=10**9) == [
        [list(range(len(side))) for side in (data, rollouts)]
    ]

    at_once, expected = found(policy, objective, (data, rollouts), 10**6, cost_of_a_pass=10**9)

    for limit in (10**6, 70):
        batch, gradients = found(policy, objective, (data, rollouts), limit)
        assert batch.loss == pytest.approx(at_once.loss, rel=1e-10)
        assert batch.terms == pytest.approx(at_once.terms, rel=1e-9, abs=1e-12)
        assert batch.num_positions == at_once.num_positions
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-11)
