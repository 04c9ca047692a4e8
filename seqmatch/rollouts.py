"""Episodes sampled from the policy, as trajectories to train on."""

from collections.abc import Callable, Sequence

from seqmatch.action_space import ActionSpace
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import Rollout, UniformSource, generate
from seqmatch.distributed import ALONE, World
from seqmatch.objectives import RolloutConfig, RoundConfig
from seqmatch.policy import Policy
from seqmatch.types import Trajectory

ACTIONS_PER_TOKEN = 4
"""Budget of a rollout: so many actions for each token that may stand."""


def sample_rollouts(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    config: RolloutConfig | RoundConfig,
    *,
    seed: int,
    step: int,
    should_stop: Callable[[], bool] | None = None,
    world: World = ALONE,
) -> list[Trajectory]:
    """Returns one sampled trajectory for each prompt, with backspace where the policy has it.

    Args:
        policy: The policy that acts.
        prompts: Tokens of the prompts; the caller draws as many as it wants rollouts.
        config: Temperature and length.
        seed: Of the random numbers; take a new one for each round.
        step: The optimiser step, kept in the trajectories as their birth.
        should_stop: True ends the sampling early; the unfinished episodes are then cut.
        world: The processes that share the prompts; each gets all trajectories.
    """
    decoding = DecodingConfig(
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        max_actions=min(ACTIONS_PER_TOKEN * config.max_new_tokens, 16_384),
    )

    def sampled(rows: Sequence[int]) -> list[Trajectory]:
        rollouts = generate(
            policy,
            [prompts[row] for row in rows],
            decoding,
            backspace=policy.space.has_backspace,
            uniforms=UniformSource(seed),
            should_stop=should_stop,
            row_ids=rows,
        )
        return [
            to_trajectory(rollout, policy.space, step) for rollout in rollouts if rollout.actions
        ]

    return world.spread(range(len(prompts)), sampled)


def to_trajectory(rollout: Rollout, space: ActionSpace, born_at_step: int = 0) -> Trajectory:
    """Returns the episode as a trajectory: the labels are the actions themselves.

    Where a limit ended the episode, the environment forces the stop token at the last step while
    the label stays what the policy chose (docs/method.md, "Corruption"), so every trajectory ends
    in a terminal state.
    """
    pushes = rollout.actions if rollout.is_finished else (*rollout.actions[:-1], space.eos_id)
    return Trajectory(
        prompt_ids=rollout.prompt_ids,
        labels=rollout.actions,
        pushes=pushes,
        born_at_step=born_at_step,
    )
