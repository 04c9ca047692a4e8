"""The exact population objective of each key, and the same number by another way.

Objectives run through the product's own loss on enumerated trajectories, weighed by probability;
beside that stands the same objective from occupancy measures. Exact divergences run through the
recursions over the tree of states; beside that stands brute force. Adversarial objectives have the
gradient of the policy step's own code on all answers; beside that stands the gradient of the
divergence by brute force. The two ways share the policy's logits, the registry's f and phi, the
limit of rewards and the margin of the calibration, which tests hold to their definitions; with
weights by length also the list of demonstrations, and with backspace the occupancy of the policy's
own samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import TypeAdapter
from torch import Tensor

from seqmatch.divergences import get_divergence
from seqmatch.errors import ConfigError
from seqmatch.exact.adversarial import Adversary, limited_square_potential, warm_up
from seqmatch.exact.choices import AdversarialChoice, OracleObjective
from seqmatch.exact.demonstrator import Demonstrator, Transitions
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.exact.languages import Language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.occupancy_losses import (
    Scales,
    backspace_calibration,
    likelihood,
    policy_transitions,
    probability,
    sequence_match,
    tempered_likelihood,
    weighted_by_probability,
)
from seqmatch.exact.output_law import data_law, output_law
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.results import Level, OracleRequest
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import (
    WeightedTrajectories,
    enumerate_answers,
    enumerate_demonstrations,
    values_along,
)
from seqmatch.exact.whole_answers import (
    divergence_by_definition,
    is_small_enough,
    law_by_brute_force,
    occupancy_by_brute_force,
)
from seqmatch.objectives import (
    CONFIGS,
    CompositeConfig,
    DFTConfig,
    ForwardKLOccupancyConfig,
    GEMConfig,
    ObjectiveConfig,
    SequenceMatchConfig,
    SFTConfig,
)
from seqmatch.objectives.composite import MARGIN
from seqmatch.objectives.dispatch import (
    needs_backspace_q,
    objective_loss,
    rollout_config,
    value_temperature,
)
from seqmatch.policy_gradient import (
    FAIRL_ORIGINAL,
    LOG_RATIO_LIMIT,
    limited,
    reward_function,
)
from seqmatch.types import StateActionValues

Loss = Callable[[ExactPolicy], Tensor]


@dataclass(frozen=True)
class Setting:
    """A language as it is trained on: solved once, whatever the objective and the seed."""

    language: Language
    chain: TokenChain
    demonstrator: Demonstrator
    demonstrations: WeightedTrajectories
    law: Tensor
    """The data's, over `chain.terminal`."""

    @staticmethod
    def of(language: Language, backspace: bool) -> "Setting":
        """Returns the setting of a language, with or without the backspace action.

        Raises:
            ConfigError: There are too many demonstrations to enumerate.
        """
        chain = TokenChain.of(language, backspace)
        demonstrator = Demonstrator.of(language, chain)
        demonstrations = enumerate_demonstrations(demonstrator)
        return Setting(language, chain, demonstrator, demonstrations, data_law(chain, language))


@dataclass(frozen=True)
class Population:
    """What is minimised for one key. A function takes the policy whose samples count as given."""

    loss: Callable[[ExactPolicy], Loss]
    """The number itself, with the given policy's samples held."""
    again: Callable[[ExactPolicy], Loss] | None
    """The same by another way; None where that would take too long."""
    descended: Callable[[ExactPolicy], Loss]
    """What the optimiser descends: the loss, or what has its gradient and a minimum."""
    has_samples: bool
    """Whether anything depends on the policy's own samples."""
    is_smooth: bool = True
    """Whether autograd differentiates it twice."""
    has_corner: bool = False
    """Whether it has no gradient where model and data agree."""
    warm_up: Callable[[ExactPolicy], None] | None = None
    """Brings a policy, in place, from its random start to where the objective takes over."""
    own_divergence: Callable[[ExactPolicy], Tensor] | None = None
    """What the objective should lower, where that is told at its start and end."""


def population_of(choice: OracleObjective, setting: Setting, request: OracleRequest) -> Population:
    """Returns what a key minimises on a language.

    Args:
        choice: The key.
        setting: The language.
        request: Gives alpha, the level of exact divergences and the order of the alpha family. An
            adversarial key has a level of its own.
    """
    if choice.adversarial:
        return _adversarial(choice.adversarial, setting, request)
    if choice.divergence:
        return _exact(choice.divergence, setting, request.level, request.divergence_order)
    return _objective(objective_config(choice, setting, request), setting)


def objective_config(
    choice: OracleObjective, setting: Setting, request: OracleRequest
) -> ObjectiveConfig:
    """Returns the config of the product's objective: the choice's settings, and the language's."""
    config_class = CONFIGS[choice.settings["kind"]]
    wanted = {
        "alpha": request.alpha,
        "discount": setting.language.discount,
        "backspace": setting.chain.has_backspace,
        "divergence_order": request.divergence_order,
    }
    settings = {name: value for name, value in wanted.items() if name in config_class.model_fields}
    config: ObjectiveConfig = TypeAdapter(ObjectiveConfig).validate_python(
        {**settings, **choice.settings}
    )
    return config


def _exact(name: str, setting: Setting, level: Level, order: float) -> Population:
    chain, discount = setting.chain, setting.language.discount
    divergence = get_divergence(name, order)
    data = setting.law if level == "answers" else setting.demonstrator.occupancy()

    def loss(policy: ExactPolicy) -> Tensor:
        log_probs = policy.log_probs()
        if level == "answers":
            return divergence_value(name, data, output_law(chain, log_probs), order)
        model = state_action_occupancy(chain, log_probs, discount)
        return divergence_value(name, data, model, order)

    def again(policy: ExactPolicy) -> Tensor:
        log_probs = policy.log_probs()
        if level == "answers":
            return divergence_by_definition(divergence, data, law_by_brute_force(chain, log_probs))
        model = occupancy_by_brute_force(chain, log_probs, discount)
        return divergence_by_definition(divergence, data, model)

    return Population(
        loss=lambda _: loss,
        again=(lambda _: again) if is_small_enough(chain) else None,
        descended=lambda _: loss,
        has_samples=False,
        is_smooth=level == "answers",
        has_corner=divergence.second_derivative is None,
    )


def _adversarial(choice: AdversarialChoice, setting: Setting, request: OracleRequest) -> Population:
    """The discriminator is solved anew at every policy, so that there is nothing to hold.

    The number is the exact divergence, or for the original reward of FAIRL what that descends; the
    gradient is minus the policy gradient.
    """
    order = request.divergence_order
    level: Level = "occupancy" if choice.level == "token" else "answers"
    own = _exact(choice.divergence, setting, level, order)
    is_original = choice.reward == FAIRL_ORIGINAL
    exact = _fled(setting, level) if is_original else own
    reward = reward_function(choice.reward, order)
    adversary = Adversary(
        data=setting.demonstrator.occupancy(),
        law=setting.law,
        discount=setting.language.discount,
        level=choice.level,
        reward=limited(reward) if is_original else reward,
    )
    imitation = _objective(SFTConfig(backspace=setting.chain.has_backspace), setting)

    def loss(policy: ExactPolicy) -> Tensor:
        value = exact.loss(policy)(policy).detach()
        if value.isinf():
            return value
        surrogate = adversary.surrogate(policy)
        return value + (surrogate - surrogate.detach())

    return Population(
        loss=lambda _: loss,
        again=exact.again,
        descended=lambda _: loss,
        has_samples=False,
        is_smooth=False,
        has_corner=exact.has_corner,
        warm_up=lambda policy: warm_up(policy, lambda p: imitation.loss(p)(p)),
        own_divergence=lambda policy: own.loss(policy)(policy),
    )


def _fled(setting: Setting, level: Level) -> Population:
    """The potential of the original reward of FAIRL, from recursions and from brute force."""
    chain, discount = setting.chain, setting.language.discount

    def loss(policy: ExactPolicy) -> Tensor:
        log_probs = policy.log_probs()
        if level == "answers":
            model = output_law(chain, log_probs)
        else:
            model = state_action_occupancy(chain, log_probs, discount)
        return limited_square_potential(data, model, LOG_RATIO_LIMIT)

    def again(policy: ExactPolicy) -> Tensor:
        log_probs = policy.log_probs()
        if level == "answers":
            model = law_by_brute_force(chain, log_probs)
        else:
            model = occupancy_by_brute_force(chain, log_probs, discount)
        return limited_square_potential(data, model, LOG_RATIO_LIMIT)

    data = setting.law if level == "answers" else setting.demonstrator.occupancy()
    return Population(
        loss=lambda _: loss,
        again=(lambda _: again) if is_small_enough(chain) else None,
        descended=lambda _: loss,
        has_samples=False,
    )


def _objective(config: ObjectiveConfig, setting: Setting) -> Population:
    has_samples = rollout_config(config) is not None

    def loss(given: ExactPolicy) -> Loss:
        rollouts = _held_rollouts(given, setting) if has_samples else None
        return lambda policy: _product_loss(config, policy, setting, rollouts)

    def again(given: ExactPolicy) -> Loss:
        model = _own_transitions(given, setting) if has_samples else None
        return lambda policy: _from_occupancies(config, policy, setting, model)

    def potential(_: ExactPolicy) -> Loss:
        visits = setting.demonstrator.visits(1.0)
        return lambda policy: probability(policy, visits)

    # DFT's own number has no minimum: its weights count as fixed.
    descended = potential if isinstance(config, DFTConfig) else loss
    return Population(loss=loss, again=again, descended=descended, has_samples=has_samples)


def _product_loss(
    config: ObjectiveConfig, policy: ExactPolicy, setting: Setting, rollouts: "_Rollouts | None"
) -> Tensor:
    """The product's loss without its imitation warm-up, in expectation over all trajectories."""
    data = values_along(
        policy,
        setting.demonstrations,
        value_temperature=value_temperature(config),
        with_backspace_q=needs_backspace_q(config),
    )
    sampled = None if rollouts is None else rollouts(policy)
    return objective_loss(config, data, sampled, beta=0.0).loss


_Rollouts = Callable[[ExactPolicy], StateActionValues]


def _held_rollouts(given: ExactPolicy, setting: Setting) -> _Rollouts:
    """Returns the values of any policy along the given one's samples.

    Without backspace these are whole answers. With it there are infinitely many, and the batch has
    a row for each transition, of one action and nothing after it, and one for each end, of no
    action: every discounted sum over trajectories is the weighted sum over these rows.
    """
    if not setting.chain.has_backspace:
        answers = enumerate_answers(setting.chain, given.log_probs())
        return lambda policy: values_along(policy, answers)
    model = _own_transitions(given, setting)
    ends = (model.absorbed > 0).nonzero().squeeze(1)
    nothing = torch.zeros(len(ends), dtype=model.mass.dtype)

    def along(policy: ExactPolicy) -> StateActionValues:
        logits, values = policy.logits(), policy.values()
        after = torch.zeros_like(model.mass)
        return StateActionValues(
            chosen_q=torch.cat([logits[model.states, model.labels], nothing])[:, None],
            values=torch.stack(
                [torch.cat([values[model.states], values[ends]]), torch.cat([after, nothing])],
                dim=1,
            ),
            is_action=torch.cat([after == 0.0, nothing != 0.0])[:, None],
            weights=torch.cat([model.mass, model.absorbed[ends]]),
            next_values=torch.cat([values[model.next_states], nothing])[:, None],
        )

    return along


def _own_transitions(given: ExactPolicy, setting: Setting) -> Transitions:
    log_probs = given.log_probs().detach()
    return policy_transitions(setting.chain, log_probs, setting.language.discount)


def _from_occupancies(
    config: ObjectiveConfig, policy: ExactPolicy, setting: Setting, model: Transitions | None
) -> Tensor:
    """The objective from its formula in docs/method.md; of the product's it takes phi alone."""
    visits = setting.demonstrator.visits
    match config:
        case SFTConfig():
            return likelihood(policy, visits(1.0))
        case ForwardKLOccupancyConfig(weights="gamma"):
            return likelihood(policy, visits(config.discount))
        case ForwardKLOccupancyConfig():
            return likelihood(policy, _weighted_visits(setting, config.weights))
        case DFTConfig():
            return weighted_by_probability(policy, visits(1.0))
        case GEMConfig():
            return tempered_likelihood(policy, visits(1.0), config.beta)
        case SequenceMatchConfig():
            divergence = get_divergence(config.divergence, config.divergence_order)
            scales = Scales(
                config.alpha, config.discount, config.mixture_data, config.mixture_model
            )
            return sequence_match(policy, visits(config.discount), model, divergence, scales)
        case CompositeConfig():
            return _composite(config, policy, visits(config.discount), model)
        case _:
            raise ConfigError(f"{config.kind} is trained on rounds of samples; no exact twin")


def _composite(
    config: CompositeConfig, policy: ExactPolicy, data: Transitions, model: Transitions | None
) -> Tensor:
    scales = Scales(config.alpha, config.discount)
    total = config.forward_kl * likelihood(policy, data)
    for name, factor in (("reverse_kl", 1.0), ("jensen_shannon", 0.5), ("chi_square_mixture", 2.0)):
        divergence = get_divergence(name)
        samples = model if divergence.uses_mixture else None
        weight: float = getattr(config, name)
        if weight:
            part = sequence_match(policy, data, samples, divergence, scales)
            total = total + weight * factor * part
    if config.backspace_calibration:
        part = backspace_calibration(policy, data, MARGIN)
        total = total + config.backspace_calibration * part
    return total


def _weighted_visits(setting: Setting, weights: str) -> Transitions:
    """Counts (state, label) over all demonstrations, the t-th of N by its weight."""
    rows = setting.demonstrations
    times = torch.arange(rows.labels.shape[1], dtype=torch.float64)
    num = rows.num_actions[:, None].to(torch.float64)
    left = num - times
    by_name = {
        "count": left,
        "count_norm": left / num,
        "paper": torch.where(num > 1.0, (left - 1.0) / (num - 1.0), 0.0),
    }
    mass = (rows.weights[:, None] * by_name[weights])[rows.is_action]
    return Transitions(
        states=rows.states[:, :-1][rows.is_action],
        labels=rows.labels[rows.is_action],
        next_states=rows.states[:, 1:][rows.is_action],
        mass=mass,
        absorbed=torch.zeros(setting.chain.num_states, dtype=torch.float64),
    )
