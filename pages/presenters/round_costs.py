"""What sampling while training needs and costs, in sentences. Pure."""

from seqmatch.config import RunConfig
from seqmatch.objectives import AdversarialConfig, DiscriminatorConfig, RolloutConfig
from seqmatch.objectives.dispatch import answers_per_prompt, in_rounds, rollout_config


def round_costs(config: RunConfig) -> tuple[str, ...]:
    """Returns what these settings add to a step of imitation; nothing where nothing is sampled."""
    rounds = in_rounds(config.objective)
    if rounds is None:
        replayed = rollout_config(config.objective)
        if not isinstance(replayed, RolloutConfig):
            return ()
        return (_replay(replayed, config.optimization.batch_size),)
    size = answers_per_prompt(config.objective)
    prompts = rounds.batch_size // size
    each = f", {size} to each of {prompts:,} prompts" if size > 1 else ""
    every = "every step" if rounds.every == 1 else f"every {rounds.every:,} steps"
    costs = [
        f"Samples {rounds.batch_size:,} answers {every}{each}, of at most "
        f"{rounds.max_new_tokens:,} tokens."
    ]
    if isinstance(config.objective, AdversarialConfig):
        costs += _discriminator_costs(config.objective.discriminator)
        if config.objective.policy_step.kl_weight:
            costs.append("Keeps one copy of the trained weights, as the reference of the KL.")
    elif config.objective.kind == "dense_reward":
        copies = "two copies" if config.objective.relative_to_start else "one copy"
        costs.append(f"Keeps {copies} of the trained weights, which reward every round.")
    else:
        costs.append("Runs the demonstrations of each round through the policy once more.")
    return tuple(costs)


def _replay(config: RolloutConfig, batch_size: int) -> str:
    uses = config.every * batch_size / config.batch_size
    return (
        f"Samples {config.batch_size:,} answers every {config.every:,} steps, of at most "
        f"{config.max_new_tokens:,} tokens; a step learns from {batch_size:,} of the newest "
        f"{config.buffer_size:,}, each answer about {uses:.2g} times."
    )


def _discriminator_costs(config: DiscriminatorConfig) -> list[str]:
    updates = "once" if config.updates == 1 else f"{config.updates} times"
    costs = [
        f"The discriminator learns {updates} a step, from the states that the policy's pass has "
        "computed: a few percent of the step."
        if config.backbone == "shared"
        else f"The discriminator's own adapter learns {updates} a step: each time one more pass "
        "forward and back over demonstrations and answers."
    ]
    if config.gradient_penalty or config.r1_penalty:
        costs.append("Its gradient penalty makes each of its updates about twice as long.")
    if config.history_share:
        older = config.history_share / (1.0 - config.history_share)
        costs.append(f"History: a pass without gradient over {older:.0%} as many older answers.")
    return costs
