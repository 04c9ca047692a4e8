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

from torch import Tensor

from seqmatch.divergences import get_divergence
from seqmatch.exact.adversarial import Adversary, limited_square_potential, warm_up
from seqmatch.exact.choices import AdversarialChoice, OracleObjective
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.exact.objective_population import objective_config, of_objective
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.results import Level, OracleRequest
from seqmatch.exact.setting import Population, Setting
from seqmatch.exact.whole_answers import (
    divergence_by_definition,
    is_small_enough,
    law_by_brute_force,
    occupancy_by_brute_force,
)
from seqmatch.objectives import SFTConfig
from seqmatch.policy_gradient import (
    FAIRL_ORIGINAL,
    LOG_RATIO_LIMIT,
    limited,
    reward_function,
)


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
    return of_objective(objective_config(choice, setting, request), setting)


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
    imitation = of_objective(SFTConfig(backspace=setting.chain.has_backspace), setting)

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
