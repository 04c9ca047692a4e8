"""Where the batches of a run come from: demonstrations, replayed rollouts, rounds of answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from seqmatch.batches import TrainingRows, draw_indices, drawn_trajectories
from seqmatch.config import RunConfig
from seqmatch.corruption import clean_trajectory
from seqmatch.discriminators.player import SeenPass
from seqmatch.distributed import ALONE, World
from seqmatch.held_weights import HeldWeights
from seqmatch.micro_batches import num_passes, share
from seqmatch.objectives.dispatch import (
    adversarial_config,
    answers_per_prompt,
    has_reference,
    imitation_weight,
    in_rounds,
    is_paired,
    needs_rollouts,
    rollout_config,
    teacher_discount,
)
from seqmatch.policy import Policy
from seqmatch.rollouts import sample_rollouts
from seqmatch.rounds import Judges, Round, RoundAnswer, judged, sample_round, with_demonstrations
from seqmatch.seeding import child_seed, generator
from seqmatch.single_pass import build_batch
from seqmatch.training_state import TrainState
from seqmatch.types import Trajectory

PASSES_WITHOUT_GRADIENT = 4
"""How many times as many positions go through the policy at once where nothing goes backward."""


@dataclass(frozen=True)
class Batch:
    """What one step trains on."""

    demonstrated: Sequence[Trajectory]
    replayed: Sequence[Trajectory] = ()
    answers: Sequence[RoundAnswer] = field(default=())
    """Those of a round, in the order of `replayed`; empty where rollouts are replayed."""

    def share_of_labels(self, action: int) -> float:
        """Returns how many of the demonstrations' labels are this action, from 0 to 1."""
        num_labels = sum(len(row.labels) for row in self.demonstrated)
        return sum(row.labels.count(action) for row in self.demonstrated) / num_labels

    def mean_birth(self) -> float:
        """Returns the mean step at which the rollouts were sampled."""
        return sum(row.born_at_step for row in self.replayed) / len(self.replayed)


def draw_batch(
    config: RunConfig, rows: TrainingRows, state: TrainState, max_positions: int
) -> Batch:
    """Returns the next batch: demonstrations, and rollouts where the step needs some.

    Demonstrations have mistakes where the run has backspace. Where each rollout meets the
    demonstration of its own prompt, those are the demonstrations.
    """
    batch_size = min(config.optimization.batch_size, len(rows.train))
    indices = draw_indices(len(rows.train), state.num_drawn, batch_size, config.seed)
    state.num_drawn += batch_size
    answers: list[RoundAnswer] = []
    replayed: list[Trajectory] = []
    if needs_rollouts(config.objective, state.step, config.optimization.num_steps):
        if state.round is not None:
            answers = state.round.draw(batch_size, state.step, config.seed)
            replayed = [answer.trajectory for answer in answers]
        else:
            rng = generator(config.seed, "replay", state.step)
            replayed = state.buffer.sample(batch_size, rng)
    if answers and is_paired(config.objective):
        indices = [answer.row for answer in answers]
    demonstrated = drawn_trajectories(
        rows,
        indices,
        state.policy,
        config.objective.corruption,
        generator(config.seed, "corruption", state.step),
        max_positions=max_positions,
    )
    return Batch(demonstrated, replayed, answers)


def is_sampling_due(config: RunConfig, state: TrainState) -> bool:
    """Tells whether new rollouts are needed before this step."""
    rollouts = rollout_config(config.objective)
    num_steps = config.optimization.num_steps
    if rollouts is None or not needs_rollouts(config.objective, state.step, num_steps):
        return False
    if in_rounds(config.objective):
        has_some = state.round is not None and not _lacks_reference(config, state, state.round)
    else:
        has_some = len(state.buffer) > 0
    return not has_some or state.step % rollouts.every == 0


def refresh_rollouts(
    config: RunConfig,
    rows: TrainingRows,
    state: TrainState,
    max_positions: int,
    should_stop: Callable[[], bool],
    world: World = ALONE,
) -> None:
    """Samples new rollouts into the buffer, or a new round in the place of the old one.

    The old one's answers go into the buffer where a discriminator remembers them. Where sampling is
    stopped early nothing changes.
    """
    settings = in_rounds(config.objective)
    if settings is None:
        _refresh_buffer(config, rows, state, should_stop, world)
        return
    fresh = sample_round(
        state.policy,
        rows.train,
        settings,
        answers_per_prompt(config.objective),
        seed=config.seed,
        step=state.step,
        max_positions=PASSES_WITHOUT_GRADIENT * max_positions,
        should_stop=should_stop,
        world=world,
    )
    if world.from_main(should_stop):
        return
    hold_reference(config, state)
    fresh = _told_of(fresh, config, rows, state, PASSES_WITHOUT_GRADIENT * max_positions, world)
    if state.round is not None and _history_share(config):
        state.buffer.add(state.round.trajectories())
    state.round = fresh


def hold_reference(config: RunConfig, state: TrainState) -> None:
    """Keeps the policy as it is at the end of the imitation warm-up, where it is needed later.

    A run that is prolonged may find itself in its warm-up again; the end of that one counts.
    """
    if not has_reference(config.objective) or not _matches(config, state):
        state.reference = None
    elif state.reference is None:
        state.reference = HeldWeights(state.policy)


def _lacks_reference(config: RunConfig, state: TrainState, held: Round) -> bool:
    """True where the loss asks for the reference, and the round is from before it."""
    is_asked = has_reference(config.objective) and _matches(config, state)
    return is_asked and not all(answer.reference_log_probs for answer in held.answers)


def _matches(config: RunConfig, state: TrainState) -> bool:
    """True where the loss of this step is more than imitation."""
    return imitation_weight(config.objective, state.step, config.optimization.num_steps) < 1.0


def older_answers(config: RunConfig, state: TrainState, num_fresh: int) -> list[Trajectory]:
    """Returns answers of earlier rounds for the discriminator, by its share of history."""
    share_of_older = _history_share(config)
    if not share_of_older or not len(state.buffer):
        return []
    wanted = share_of_older / (1.0 - share_of_older) * num_fresh
    rng = generator(config.seed, "history", state.step)
    return state.buffer.sample(max(round(wanted), 1), rng)


@torch.no_grad()
def seen_without_gradient(
    policy: Policy, trajectories: Sequence[Trajectory], max_positions: int
) -> list[SeenPass]:
    """Returns answers as the discriminator reads them, in passes without gradient."""
    found = []
    count = num_passes([trajectories], max_positions) if trajectories else 0
    for index in range(count):
        batch = build_batch(share(trajectories, index, count), policy.space, device=policy.device)
        hidden = policy.slot_states(batch)
        values = policy.state_action_values(batch, hidden=hidden)
        found.append(SeenPass((), batch, hidden, values))
    return found


def _history_share(config: RunConfig) -> float:
    adversarial = adversarial_config(config.objective)
    return 0.0 if adversarial is None else adversarial.discriminator.history_share


def _refresh_buffer(
    config: RunConfig,
    rows: TrainingRows,
    state: TrainState,
    should_stop: Callable[[], bool],
    world: World,
) -> None:
    rollouts = rollout_config(config.objective)
    if rollouts is None:
        return
    rng = generator(config.seed, "rollout prompts", state.step)
    chosen = rng.integers(len(rows.train), size=rollouts.batch_size)
    sampled = sample_rollouts(
        state.policy,
        [rows.train[index].prompt_ids for index in chosen],
        rollouts,
        seed=child_seed(config.seed, "rollouts", state.step),
        step=state.step,
        should_stop=should_stop,
        world=world,
    )
    if not world.from_main(should_stop):
        state.buffer.add(sampled)


def _told_of(
    fresh: Round,
    config: RunConfig,
    rows: TrainingRows,
    state: TrainState,
    max_positions: int,
    world: World,
) -> Round:
    """The round with what other policies say of its answers, and its own of demonstrations."""
    objective, policy = config.objective, state.policy
    if is_paired(objective):
        demonstrated = [
            clean_trajectory(rows.train[answer.row], policy.space) for answer in fresh.answers
        ]
        fresh = with_demonstrations(fresh, policy, demonstrated, max_positions, world)
    judges = Judges(state.reference, state.start, teacher_discount(objective))
    return judged(fresh, policy, judges, max_positions, world)
