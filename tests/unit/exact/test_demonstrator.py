"""The demonstrator with mistakes: closed form, every branch, and the product's own noise."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from seqmatch.action_space import ActionSpace
from seqmatch.corruption import corrupt
from seqmatch.errors import ConfigError
from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.languages import LANGUAGES, Language, get_language, parse_language
from seqmatch.exact.occupancy import state_action_occupancy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.token_mdp import visited_states
from seqmatch.types import TokenizedDemonstration
from tests.oracles.noisy_demonstrations import demonstrations

GAMMA = 0.9
TABLE = "ab 0.5\nba 0.2\na 0.1\nabbb 0.1\n(empty) 0.1"
Key = tuple[tuple[int, ...], int, tuple[int, ...]]


def small_language() -> Language:
    return parse_language(TABLE)


def second_moments(language: Language, rate: float, burst: int) -> dict[Key, float]:
    """E[X^2] of the discounted visits X of each transition, by enumeration."""
    squares: dict[Key, float] = defaultdict(float)
    vocab = len(language.tokens)
    for answer, probability in language.law.items():
        for records, share in demonstrations(answer, vocab, language.max_length, rate, burst):
            visited: dict[Key, float] = defaultdict(float)
            for time, record in enumerate(records):
                visited[record] += GAMMA**time
            for record, mass in visited.items():
                squares[record] += probability * share * mass**2
    return squares


@pytest.mark.parametrize("discount", [GAMMA, 1.0])
@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (0.3, 1), (0.3, 2), (0.2, 3)])
def test_visits_equal_the_sum_over_every_branch(rate: float, burst: int, discount: float) -> None:
    language = small_language()
    chain = TokenChain.of(language, True)
    expected: dict[Key, float] = defaultdict(float)
    ended: dict[tuple[int, ...], float] = defaultdict(float)
    for answer, probability in language.law.items():
        for records, share in demonstrations(answer, 3, language.max_length, rate, burst):
            for time, record in enumerate(records):
                expected[record] += discount**time * probability * share
            ended[answer] += discount ** len(records) * probability * share

    visits = Demonstrator(language, chain, rate, burst, GAMMA).visits(discount)

    columns = (visits.states, visits.labels, visits.next_states, visits.mass)
    found = {
        (chain.states[s], y, chain.states[after]): mass
        for s, y, after, mass in zip(*(column.tolist() for column in columns), strict=True)
    }
    positive = {record: mass for record, mass in expected.items() if mass > 0}
    assert found == pytest.approx(positive, rel=1e-10)
    absorbed = {chain.states[n]: float(visits.absorbed[n]) for n in visits.absorbed.nonzero()[:, 0]}
    assert absorbed == pytest.approx(dict(ended), rel=1e-10)


@pytest.mark.parametrize("burst", [1, 2])
def test_visits_agree_with_the_products_own_mistakes(burst: int) -> None:
    """Discounted visits of 20,000 corrupted demonstrations, each within 5 standard errors."""
    language = small_language()
    chain = TokenChain.of(language, True)
    space = ActionSpace(3, 0, 0, None, True, frozenset({0}))
    config = CorruptionConfig(rate=0.3, burst=burst)
    rng = np.random.default_rng(0)
    answers = list(language.law)
    num = 20_000
    drawn = rng.choice(len(answers), size=num, p=list(language.law.values()))
    sums: dict[Key, float] = defaultdict(float)
    for index in drawn:
        demo = TokenizedDemonstration((0,), answers[index], int(index))
        # The prompt is one token long, and a state of the chain has one token less than the limit.
        made = corrupt(demo, space, config, None, rng, max_tokens=language.max_length)
        states = [state[1:] for state in visited_states(made, space)]
        for time, record in enumerate(zip(states, made.labels, states[1:], strict=False)):
            sums[record] += GAMMA**time
    squares = second_moments(language, 0.3, burst)

    visits = Demonstrator(language, chain, 0.3, burst, GAMMA).visits(GAMMA)

    columns = (visits.states, visits.labels, visits.next_states, visits.mass)
    exact = {
        (chain.states[s], y, chain.states[after]): mass
        for s, y, after, mass in zip(*(column.tolist() for column in columns), strict=True)
    }
    assert sums.keys() <= exact.keys()
    for record, mass in exact.items():
        error = np.sqrt((squares[record] - mass**2) / num)
        assert abs(sums[record] / num - mass) < 5 * error, record


@pytest.mark.parametrize("backspace", [False, True])
@pytest.mark.parametrize("name", LANGUAGES)
def test_d1_and_d2_hold_for_the_demonstrator(name: str, backspace: bool) -> None:
    language = get_language(name)
    chain = TokenChain.of(language, backspace)
    demonstrator = Demonstrator.of(language, chain)
    visits = demonstrator.visits(language.discount)
    gamma = language.discount
    values = torch.randn(chain.num_states, generator=torch.Generator().manual_seed(0)).double()

    assert float(demonstrator.occupancy().sum()) == pytest.approx(1.0, abs=1e-12)
    assert float(demonstrator.clean_occupancy().sum()) == pytest.approx(1.0, abs=1e-12)
    along = values[visits.states] - gamma * values[visits.next_states]
    telescoped = (visits.mass * along).sum() + (visits.absorbed * values).sum()
    assert float(telescoped) == pytest.approx(float(values[0]), abs=1e-12)


def test_without_mistakes_the_occupancy_is_that_of_the_data_as_a_policy() -> None:
    language = get_language("trap")
    chain = TokenChain.of(language, True)
    demonstrator = Demonstrator(language, chain, 0.0, 1, GAMMA)

    clean = demonstrator.clean_occupancy()

    assert torch.allclose(demonstrator.occupancy(), clean, atol=1e-15)
    policy = demonstrator.probs().log()
    assert torch.equal(state_action_occupancy(chain, policy, GAMMA), clean)
    assert not clean[:, chain.backspace].any()


def test_mistakes_put_backspace_at_every_wrong_state_and_keep_the_answers() -> None:
    language = get_language("trap")
    chain = TokenChain.of(language, True)
    demonstrator = Demonstrator.of(language, chain)
    pit = chain.index[(2,)]

    noisy = demonstrator.occupancy()

    assert float(noisy[pit, chain.backspace]) > 0
    assert not noisy[pit, : chain.vocab].any()
    counts = demonstrator.visits(1.0)
    for number, mass in enumerate(counts.absorbed.tolist()):
        assert mass == pytest.approx(language.law.get(chain.states[number], 0.0), rel=1e-12)


@pytest.mark.parametrize(
    ("backspace", "rate", "burst", "discount", "message"),
    [
        (False, 0.1, 1, 0.9, "without backspace"),
        (True, 1.0, 1, 0.9, "noise rate"),
        (True, 0.1, 0, 0.9, "bursts"),
        (True, 0.1, 1, 1.0, "discount"),
    ],
)
def test_settings_outside_their_range_are_refused(
    backspace: bool, rate: float, burst: int, discount: float, message: str
) -> None:
    language = small_language()
    with pytest.raises(ConfigError, match=message):
        Demonstrator(language, TokenChain.of(language, backspace), rate, burst, discount)
