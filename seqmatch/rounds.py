"""Rounds of fresh answers: sampled from the policy as it is, used in the steps that follow.

What the policies of the round say of an answer is computed once, when it is sampled: the
log-probabilities of the policy that sampled it, those of the reference, and what a teacher's dense
reward returns. A round is plain data, so that it stands in a checkpoint as JSON, exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from seqmatch.batches import draw_indices
from seqmatch.distributed import ALONE, World
from seqmatch.held_weights import HeldWeights
from seqmatch.objectives import RoundConfig
from seqmatch.objectives.dense_reward import implied_returns
from seqmatch.policy import Policy
from seqmatch.rollouts import sample_rollouts
from seqmatch.seeding import child_seed, generator
from seqmatch.trajectory_values import TrajectoryValues, trajectory_values
from seqmatch.types import StateActionValues, TokenizedDemonstration, Trajectory

Numbers = tuple[float, ...]
"""One for each action of an answer; empty where nobody asked."""


@dataclass(frozen=True)
class RoundAnswer:
    """One answer of a round."""

    trajectory: Trajectory
    row: int
    """Which training row's prompt it answers."""
    old_log_probs: Numbers
    """log p(a_t|s_t) of the policy that sampled it, in nats."""
    reference_log_probs: Numbers = ()
    """The same of the reference policy."""
    returns: Numbers = ()
    """G_t of a teacher's dense reward."""
    demonstration_log_probs: Numbers = ()
    """Of the demonstrated answer to the same prompt, under the policy that sampled this one."""


@dataclass(frozen=True)
class Round:
    """The answers of one round, those to one prompt side by side."""

    born_at_step: int
    answers_per_prompt: int
    answers: tuple[RoundAnswer, ...]

    @property
    def num_prompts(self) -> int:
        """How many prompts were answered."""
        return len(self.answers) // self.answers_per_prompt

    def trajectories(self) -> list[Trajectory]:
        """Returns the answers as trajectories."""
        return [answer.trajectory for answer in self.answers]

    def draw(self, num_answers: int, step: int, seed: int) -> list[RoundAnswer]:
        """Returns the answers of a step: whole prompts, at least one, about so many answers.

        The steps of a round go through its prompts in an order of their own, so that none comes
        twice before all have come once.
        """
        size = self.answers_per_prompt
        count = min(max(num_answers // size, 1), self.num_prompts)
        num_drawn = (step - self.born_at_step) * count
        order_seed = child_seed(seed, "order of a round", self.born_at_step)
        prompts = draw_indices(self.num_prompts, num_drawn, count, order_seed)
        return [answer for at in prompts for answer in self.answers[at * size : (at + 1) * size]]

    def state(self) -> dict[str, Any]:
        """Returns the round as plain data that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Round":
        """Returns the round whose `state` this is."""
        answers = []
        for stored in state["answers"]:
            parts = {name: tuple(value) for name, value in stored.items() if name in _NUMBERS}
            path = stored["trajectory"]
            trajectory = Trajectory(
                tuple(path["prompt_ids"]),
                tuple(path["labels"]),
                tuple(path["pushes"]),
                path["born_at_step"],
            )
            answers.append(RoundAnswer(trajectory, stored["row"], **parts))
        return cls(state["born_at_step"], state["answers_per_prompt"], tuple(answers))


_NUMBERS = ("old_log_probs", "reference_log_probs", "returns", "demonstration_log_probs")


@dataclass(frozen=True)
class Judges:
    """The policies that say something of a round beside the one that samples it."""

    reference: HeldWeights | None = None
    """At the end of the imitation warm-up."""
    start: HeldWeights | None = None
    """Before training; its dense reward is taken off the reference's."""
    teacher_discount: float | None = None
    """gamma of the dense reward of the reference; None where that is not asked for."""


def sample_round(
    policy: Policy,
    rows: Sequence[TokenizedDemonstration],
    config: RoundConfig,
    answers_per_prompt: int,
    *,
    seed: int,
    step: int,
    max_positions: int,
    should_stop: Callable[[], bool] | None = None,
    world: World = ALONE,
) -> Round:
    """Samples one round: random training prompts, each answered several times.

    Args:
        policy: The policy that acts.
        rows: The training rows; their prompts are drawn without repetition while there are enough.
        config: How many answers, and how long they may be.
        answers_per_prompt: Divides the number of answers.
        seed: The run's.
        step: The optimiser step.
        max_positions: Input positions that go through the policy at once.
        should_stop: True ends the sampling early; the round is then of no use.
        world: The processes that share the work; each gets the whole round.
    """
    rng = generator(seed, "rollout prompts", step)
    count = config.batch_size // answers_per_prompt
    chosen = rng.choice(len(rows), size=count, replace=count > len(rows)).tolist()
    asked = [row for row in chosen for _ in range(answers_per_prompt)]
    trajectories = sample_rollouts(
        policy,
        [rows[row].prompt_ids for row in asked],
        config,
        seed=child_seed(seed, "rollouts", step),
        step=step,
        should_stop=should_stop,
        world=world,
    )
    if len(trajectories) != len(asked):  # cut off before their first action
        return Round(step, answers_per_prompt, ())
    log_probs = log_probs_along(policy, trajectories, max_positions, world)
    answers = map(RoundAnswer, trajectories, asked, log_probs)
    return Round(step, answers_per_prompt, tuple(answers))


def judged(
    sampled: Round, policy: Policy, judges: Judges, max_positions: int, world: World = ALONE
) -> Round:
    """Returns the round with what the reference and a teacher say of its answers.

    The policy's own weights are exchanged meanwhile.
    """
    if judges.reference is None or not sampled.answers:
        return sampled
    trajectories = sampled.trajectories()

    def values_of(rows: Sequence[Trajectory]) -> Sequence[TrajectoryValues]:
        return trajectory_values(policy, rows, max_positions)

    with judges.reference.in_place(policy):
        found = world.spread(trajectories, values_of)
    reference = [_numbers(each.log_probs()) for each in found]
    returns: list[Numbers] = [()] * len(trajectories)
    if judges.teacher_discount is not None:
        taken_off = None
        if judges.start is not None:
            with judges.start.in_place(policy):
                taken_off = world.spread(trajectories, values_of)
        returns = _dense_returns(found, taken_off, judges.teacher_discount)
    answers = [
        replace(answer, reference_log_probs=log_probs, returns=what_follows)
        for answer, log_probs, what_follows in zip(sampled.answers, reference, returns, strict=True)
    ]
    return replace(sampled, answers=tuple(answers))


def with_demonstrations(
    sampled: Round,
    policy: Policy,
    demonstrated: Sequence[Trajectory],
    max_positions: int,
    world: World = ALONE,
) -> Round:
    """Returns the round with what its policy says of the demonstrations of its prompts."""
    log_probs = log_probs_along(policy, demonstrated, max_positions, world)
    answers = [
        replace(answer, demonstration_log_probs=numbers)
        for answer, numbers in zip(sampled.answers, log_probs, strict=True)
    ]
    return replace(sampled, answers=tuple(answers))


def log_probs_along(
    policy: Policy, trajectories: Sequence[Trajectory], max_positions: int, world: World = ALONE
) -> list[Numbers]:
    """Returns log p(y_t|s_t) of each action of each trajectory, in nats."""

    def found_of(rows: Sequence[Trajectory]) -> list[Numbers]:
        found = trajectory_values(policy, rows, max_positions)
        return [_numbers(each.log_probs()) for each in found]

    return world.spread(trajectories, found_of)


def padded(rows: Sequence[Numbers], like: Tensor) -> Tensor:
    """Returns numbers of actions as a tensor of the shape of `like`, 0 beyond each row's last."""
    width = like.shape[1]
    filled = [(*row, *([0.0] * (width - len(row)))) for row in rows]
    return torch.tensor(filled, dtype=like.dtype, device=like.device)


def _dense_returns(
    found: Sequence[TrajectoryValues], taken_off: Sequence[TrajectoryValues] | None, discount: float
) -> list[Numbers]:
    returns = [_returns(each, discount) for each in found]
    if taken_off is not None:
        before = [_returns(each, discount) for each in taken_off]
        returns = [one - other for one, other in zip(returns, before, strict=True)]
    return [tuple(each.tolist()) for each in returns]


def _returns(found: TrajectoryValues, discount: float) -> Tensor:
    values = StateActionValues(
        chosen_q=torch.from_numpy(found.chosen_q)[None],
        values=torch.from_numpy(found.values)[None],
        is_action=torch.ones((1, len(found.chosen_q)), dtype=torch.bool),
    )
    # V(s_k) is no part of what an action is worth; without it the numbers stay small.
    return (implied_returns(values, discount) - values.values[:, :-1])[0]


def _numbers(values: Any) -> Numbers:
    return tuple(float(value) for value in values)
