"""The exact population loss of each of the product's objectives, in two ways.

Through the product's own loss on enumerated trajectories, weighed by probability; beside that the
same objective from occupancy measures, by its formula in docs/method.md.
"""

from collections.abc import Callable

import torch
from pydantic import TypeAdapter
from torch import Tensor

from seqmatch.divergences import get_divergence
from seqmatch.errors import ConfigError
from seqmatch.exact.choices import OracleObjective
from seqmatch.exact.demonstrator import Transitions
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
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.results import OracleRequest
from seqmatch.exact.setting import Loss, Population, Setting
from seqmatch.exact.trajectories import enumerate_answers, values_along
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
from seqmatch.types import StateActionValues


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


def of_objective(config: ObjectiveConfig, setting: Setting) -> Population:
    """Returns the exact loss of one of the product's objectives, by its code and by its formula."""
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
