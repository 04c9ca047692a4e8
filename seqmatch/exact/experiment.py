"""The exact experiment: trains every objective from every seed and measures, piece by piece."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmatch.divergences import divergences_of
from seqmatch.exact.choices import OracleObjective, get_oracle_objective
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.exact.languages import TABLE, get_language, parse_language
from seqmatch.exact.objective_population import objective_config
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.optimum import Interrupted, Optimum, minimise, minimise_in_rounds
from seqmatch.exact.output_law import output_law, simulate
from seqmatch.exact.policies import ExactPolicy, make_policy, without_backspace
from seqmatch.exact.population import population_of
from seqmatch.exact.results import (
    OracleAnswer,
    OracleLanguage,
    OraclePiece,
    OracleRequest,
    OracleRun,
)
from seqmatch.exact.setting import Population, Setting
from seqmatch.objectives.dispatch import warnings_of

MAX_LISTED = 100
"""Answers that are listed one by one; the others are pooled in one entry."""
_NUM_RANDOM = 2
"""Random policies at which a loss is held against its enumeration, beside the trained one."""

_MANY_STATES = 5_000
"""From here on a run is told to take minutes: every step of it goes through all states."""

Tell = Callable[[OraclePiece], bool]


def run_experiment(request: OracleRequest, tell: Tell) -> None:
    """Trains each objective from each seed to its optimum and measures the result exactly.

    Seeds go round by round, so that every objective is there early.

    Args:
        request: What to train on which language.
        tell: Takes each piece, "language" first; False stops, also within a run.

    Raises:
        UnknownNameError: The language is not known.
        ConfigError: The table cannot be read, or there is too much to enumerate.
    """
    setting = setting_of(request)
    listing = _Listing.of(setting)

    def say(piece: OraclePiece) -> None:
        if not tell(piece):
            raise Interrupted

    with contextlib.suppress(Interrupted):
        say(OraclePiece(kind="language", language=_described(setting, listing, request)))
        if setting.chain.num_states >= _MANY_STATES:
            say(OraclePiece(kind="note", text=_how_large(setting)))
        benches = []
        for choice in map(get_oracle_objective, request.objectives):
            population = population_of(choice, setting, request)
            is_infinite = _is_infinite(population, setting)
            if not is_infinite:
                benches.append((choice, _Bench(request, setting, listing, population)))
            warnings = warnings_about(choice, setting, request)
            for note in [_why_infinite(choice)] if is_infinite else warnings:
                say(OraclePiece(kind="note", text=note))
        runs = list(itertools.product(request.seeds, benches))
        for done, (seed, (choice, bench)) in enumerate(runs):
            watch = _watcher(tell, done, len(runs), f"{choice.title}, seed {seed}")
            say(OraclePiece(kind="run", run=bench.run(choice.key, seed, watch)))
        say(OraclePiece(kind="progress", done=len(runs), total=len(runs), text="done"))


def setting_of(request: OracleRequest) -> Setting:
    """Returns the language of a request as it is trained on.

    Raises:
        UnknownNameError: The language is not known.
        ConfigError: The table cannot be read, or there is too much to enumerate.
    """
    is_table = request.language == TABLE
    language = parse_language(request.table) if is_table else get_language(request.language)
    if request.policy is not None:
        language = dataclasses.replace(language, policy=request.policy)
    backspace = language.backspace if request.backspace is None else request.backspace
    return Setting.of(language, backspace)


def _how_large(setting: Setting) -> str:
    return (
        f"This language has {setting.chain.num_states:,} states: a run may take minutes. Fewer "
        "tokens, shorter answers or no backspace make it faster; what is finished stays."
    )


def optimum_of(
    population: Population, policy: ExactPolicy, tell: Callable[[], bool] = lambda: True
) -> Optimum:
    """Trains a policy, in place, to the optimum of a population objective."""
    if population.has_samples:
        return minimise_in_rounds(policy, _bound(population.descended, policy), tell)
    loss = population.descended(policy)
    return minimise(policy, lambda: loss(policy), tell, is_smooth=population.is_smooth)


def loss_match(
    population: Population, setting: Setting, policy: ExactPolicy, seed: int
) -> float | None:
    """Returns the largest absolute difference between a loss and its enumeration.

    Over the value and every entry of the gradient, at the policy as it is and at random ones; None
    where there is no enumeration. A loss with a corner is trained into it, and there any slope of a
    range is right: at the policy as it is only its value counts.
    """
    if population.again is None:
        return None
    seeds = (1_000_003 * (seed + 1) + number for number in range(_NUM_RANDOM))
    others = [make_policy(setting.chain, setting.language.policy, each) for each in seeds]
    worst = 0.0
    for each in (policy, *others):
        parameters = list(each.parameters())
        numbers = []
        for way in (population.loss, population.again):
            value = way(each)(each)
            numbers.append(value.reshape(1))
            if each is not policy or not population.has_corner:
                gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
                numbers[-1] = torch.cat([numbers[-1], *(g.flatten() for g in gradients)])
        worst = max(worst, float((numbers[0] - numbers[1]).detach().abs().max()))
    return worst


def warnings_about(choice: OracleObjective, setting: Setting, request: OracleRequest) -> list[str]:
    """Returns what the product warns of before it trains on these settings."""
    if not choice.settings:
        return []
    config = objective_config(choice, setting, request)
    return [f"{choice.key}: {warning}" for warning in warnings_of(config)]


def _bound(
    descended: Callable[[ExactPolicy], Callable[[ExactPolicy], Tensor]], policy: ExactPolicy
) -> Callable[[], Callable[[], Tensor]]:
    def hold() -> Callable[[], Tensor]:
        loss = descended(policy)
        return lambda: loss(policy)

    return hold


@dataclass(frozen=True)
class _Listing:
    """Which answers are listed: by falling probability, the last ones pooled."""

    order: Tensor
    """Places in the law of answers, all of them."""
    num_listed: int

    @staticmethod
    def of(setting: Setting) -> "_Listing":
        order = setting.law.argsort(descending=True, stable=True)
        return _Listing(order, len(order) if len(order) <= MAX_LISTED else MAX_LISTED - 1)

    @property
    def num_pooled(self) -> int:
        return len(self.order) - self.num_listed

    def numbers(self, law: Tensor) -> list[float]:
        """The probabilities of the entries, under any law of answers."""
        ordered = law[self.order]
        listed: list[float] = ordered[: self.num_listed].tolist()
        return listed + ([float(ordered[self.num_listed :].sum())] if self.num_pooled else [])


@dataclass(frozen=True)
class _Bench:
    """One objective on one language, from any seed."""

    request: OracleRequest
    setting: Setting
    listing: _Listing
    population: Population

    def run(self, key: str, seed: int, watch: Callable[[], bool]) -> OracleRun:
        setting = self.setting
        policy = make_policy(setting.chain, setting.language.policy, seed)
        if self.population.warm_up is not None:
            self.population.warm_up(policy)
        at_start = self._own_divergence(policy)
        optimum = optimum_of(self.population, policy, watch)
        log_probs = policy.log_probs().detach()
        law = output_law(setting.chain, log_probs)
        num_simulated = self.request.num_simulated if setting.chain.has_backspace else 0
        return OracleRun(
            objective=key,
            seed=seed,
            law=self.listing.numbers(law),
            divergences=self._divergences(law, log_probs),
            loss=float(self.population.loss(policy)(policy).detach()),
            loss_match=loss_match(self.population, setting, policy, seed),
            num_iterations=optimum.num_iterations,
            grad_norm=optimum.grad_norm,
            is_converged=optimum.is_converged,
            num_rounds=optimum.num_rounds,
            off_data_probability=self._off_data(law),
            off_data_probability_masked=self._masked(log_probs),
            off_data_probability_simulated=self._simulated(log_probs, seed, num_simulated),
            num_simulated=num_simulated,
            own_divergence_at_start=at_start,
            own_divergence=self._own_divergence(policy),
        )

    def _divergences(self, law: Tensor, log_probs: Tensor) -> dict[str, float]:
        setting, order = self.setting, self.request.divergence_order
        if self.request.level == "answers":
            data, model = setting.law, law
        else:
            data = setting.demonstrator.occupancy()
            model = state_action_occupancy(setting.chain, log_probs, setting.language.discount)
        return {
            name: float(divergence_value(name, data, model, order))
            for name in divergences_of("exact")
        }

    def _own_divergence(self, policy: ExactPolicy) -> float | None:
        own = self.population.own_divergence
        return None if own is None else float(own(policy).detach())

    def _off_data(self, law: Tensor) -> float:
        return float(law[self.setting.law == 0.0].sum())

    def _masked(self, log_probs: Tensor) -> float | None:
        chain = self.setting.chain
        if not chain.has_backspace:
            return None
        return self._off_data(output_law(chain, without_backspace(chain, log_probs)))

    def _simulated(self, log_probs: Tensor, seed: int, num: int) -> float | None:
        if not num:
            return None
        chain = self.setting.chain
        ends = simulate(chain, log_probs, num, torch.Generator().manual_seed(seed))
        is_off = torch.zeros(chain.num_states, dtype=torch.bool)
        is_off[chain.terminal] = self.setting.law == 0.0
        return float(is_off[ends].double().mean())


def _described(setting: Setting, listing: _Listing, request: OracleRequest) -> OracleLanguage:
    language, chain = setting.language, setting.chain
    listed = chain.terminal[listing.order[: listing.num_listed]].tolist()
    texts = [language.text(chain.states[number]) for number in listed]
    if listing.num_pooled:
        texts.append(f"{listing.num_pooled:,} others")
    answers = [
        OracleAnswer(text=text, probability=probability)
        for text, probability in zip(texts, listing.numbers(setting.law), strict=True)
    ]
    return OracleLanguage(
        name=language.name,
        title=language.title,
        sentence=language.sentence,
        policy=language.policy,
        backspace=chain.has_backspace,
        noise_rate=setting.demonstrator.noise_rate,
        discount=language.discount,
        answers=answers,
        num_pooled=listing.num_pooled,
        measured=list(divergences_of("exact")),
        level=request.level,
    )


def _is_infinite(population: Population, setting: Setting) -> bool:
    """Whether the loss is infinite for whatever the model can say: its probabilities are above 0.

    So one policy tells for all.
    """
    policy = make_policy(setting.chain, setting.language.policy, 0)
    return bool(population.loss(policy)(policy).isinf())


def _why_infinite(choice: OracleObjective) -> str:
    return (
        f"{choice.key} is not trained: it is infinite for every policy, because the model gives "
        "some probability to what the data never does"
    )


def _watcher(tell: Tell, done: int, total: int, text: str) -> Callable[[], bool]:
    piece = OraclePiece(kind="progress", done=done, total=total, text=text)
    return lambda: tell(piece)
