"""Training on the tree of prefixes against reading the uncovered token again at each backspace.

Row 16 of the table. A trajectory of A pushes and K backspaces visits A + K + 1 states. The tree
holds each distinct prefix once, in A slots; the other layout has a slot for every visit, A + K.
Both are one masked pass of the same policy on the same trajectories, and give Q and V at every
visit. Timed is a whole step: layout, forward, backward and update.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.paired import Figure, compare, control_of
from seqmatch import packaged_model
from seqmatch.action_space import ActionSpace
from seqmatch.config import AdapterConfig, OptimizationConfig
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.objectives import SequenceMatchConfig
from seqmatch.objectives.dispatch import objective_loss
from seqmatch.optimization import apply_gradients, make_optimizer
from seqmatch.policy import Policy, load_policy
from seqmatch.single_pass import Construction, build_batch
from seqmatch.types import StateActionValues, Trajectory

OBJECTIVE = SequenceMatchConfig(offline=True)
PROMPT, BLOCK, DELETIONS = 8, 10, 2
"""Tokens given; of each block of actions so many are backspaces: one in five."""


@dataclass
class Visits:
    """A policy with its optimiser, and trajectories with backspaces."""

    words: str
    policy: Policy
    optimizer: torch.optim.Optimizer
    trajectories: Sequence[Trajectory]

    @staticmethod
    def of(base_model: str, adapter: str, num_rows: int, num_blocks: int, device: str) -> "Visits":
        """Loads a policy and draws trajectories."""
        policy = load_policy(
            base_model,
            AdapterConfig.model_validate({"kind": adapter}),
            True,
            seed=0,
            device=device,
            models_dir=DEFAULT_DATA_DIR / "models",
        )
        return Visits(
            f"{base_model}, {adapter}, {num_rows} rows of {num_blocks * BLOCK + 1} actions",
            policy,
            make_optimizer(policy.trainable_parameters(), OptimizationConfig()),
            trajectories(num_rows, num_blocks, policy.space),
        )

    def values(self, construction: Construction) -> StateActionValues:
        """Returns Q and V of all visits."""
        batch = build_batch(
            self.trajectories,
            self.policy.space,
            construction=construction,
            device=self.policy.device,
        )
        return self.policy.state_action_values(batch)

    def step(self, construction: Construction) -> None:
        """One optimiser step."""
        loss = objective_loss(OBJECTIVE, self.values(construction), None, 0.5).loss
        torch.autograd.backward(loss)
        apply_gradients(self.optimizer, loss.item(), learning_rate=1e-5, max_grad_norm=1.0)

    def num_slots(self, construction: Construction) -> int:
        """Returns how many slots are read, padding left out."""
        batch = build_batch(self.trajectories, self.policy.space, construction=construction)
        return int(batch.is_slot.sum())

    @torch.no_grad()
    def off_by(self) -> float:
        """Returns the largest difference of a Q or a V between the two layouts, in nats."""
        tree, again = self.values("trie"), self.values("refeed")
        return max(
            (tree.chosen_q - again.chosen_q).abs().max().item(),
            (tree.values - again.values).abs().max().item(),
        )


def trajectories(num_rows: int, num_blocks: int, space: ActionSpace) -> list[Trajectory]:
    """Draws sampled answers of random tokens; in each block two tokens are taken back."""
    rng = np.random.default_rng(0)
    tokens = np.array([x for x in range(space.vocab_size) if x not in space.unpushable])
    found = []
    for _ in range(num_rows):
        actions = rng.choice(tokens, size=(num_blocks, BLOCK))
        for block in actions:
            # After at least as many pushes, so that there is always something to delete.
            at = rng.choice(np.arange(DELETIONS, BLOCK), size=DELETIONS, replace=False)
            block[at] = space.backspace_id
        prompt = tuple(rng.choice(tokens, size=PROMPT).tolist())
        taken = (*actions.flatten().tolist(), space.eos_id)
        found.append(Trajectory(prompt, taken, taken))
    return found


def figures(device: str) -> Iterator[Figure]:
    """Measures the small model, and SmolLM2 where it is prepared."""
    yield figure(Visits.of("byte-llama-small", "full", 16, 12, device), rounds=15)
    if packaged_model.is_prepared(DEFAULT_DATA_DIR / "models"):
        yield figure(Visits.of("smollm2-135m-instruct", "lora", 2, 8, device), rounds=7)


def figure(visits: Visits, rounds: int) -> Figure:
    """Row 16."""
    error = visits.off_by()
    variants = {"again": partial(visits.step, "refeed"), "tree": partial(visits.step, "trie")}
    ratios = compare(variants, "again", rounds=rounds, warm_up=1)
    labels = [label for each in visits.trajectories for label in each.labels]
    share = labels.count(visits.policy.space.backspace_id) / len(labels)
    slots = visits.num_slots("trie") / visits.num_slots("refeed")
    goal = 0.88 if torch.cuda.is_available() else 0.90
    return Figure(
        row="16",
        what=f"training on the tree against reading again at each visit, {share:.0%} backspaces, "
        f"{visits.words}",
        measured=f"{ratios['tree']}, with {slots:.2f} of the slots",
        goal=f"<= {goal:.2f}",
        is_met=ratios["tree"].median <= goal,
        is_clear=ratios["tree"].is_clear_of(goal),
        equality=f"Q and V at all {len(labels):,} visits, off by {error:.0e} nats",
        control=control_of(ratios),
    )
