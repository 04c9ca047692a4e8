"""Enumerated trajectories: the product's losses on them are exact expectations."""

import math

import pytest
import torch

from seqmatch.errors import ConfigError
from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.languages import LANGUAGES, get_language, parse_language
from seqmatch.exact.output_law import output_law
from seqmatch.exact.policies import make_policy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import (
    WeightedTrajectories,
    enumerate_answers,
    enumerate_demonstrations,
    values_along,
)
from seqmatch.objectives.maximum_likelihood import sft_loss
from tests.oracles.noisy_demonstrations import demonstrations

GAMMA = 0.9


def records(chain: TokenChain, rows: WeightedTrajectories) -> dict[tuple[object, ...], float]:
    """The probability of each (state, label, next state) string."""
    found: dict[tuple[object, ...], float] = {}
    for states, labels, num, weight in zip(
        rows.states.tolist(),
        rows.labels.tolist(),
        rows.num_actions.tolist(),
        rows.weights.tolist(),
        strict=True,
    ):
        visited = [chain.states[number] for number in states]
        string = tuple((visited[t], labels[t], visited[t + 1]) for t in range(num))
        found[string] = found.get(string, 0.0) + weight
        assert set(visited[num:]) == {visited[num]}
    return found


@pytest.mark.parametrize("burst", [1, 2])
def test_demonstrations_are_all_branches(burst: int) -> None:
    language = parse_language("ab 0.5\nba 0.3\na 0.2\n(empty) 0")
    chain = TokenChain.of(language, True)
    rows = enumerate_demonstrations(Demonstrator(language, chain, 0.3, burst, GAMMA))

    expected = {
        string: probability * share
        for answer, probability in language.law.items()
        for string, share in demonstrations(answer, 3, language.max_length, 0.3, burst)
        if probability
    }
    assert records(chain, rows) == pytest.approx(expected, rel=1e-12)
    assert float(rows.weights.sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", LANGUAGES)
def test_products_likelihood_on_them_is_the_exact_expectation(name: str) -> None:
    language = get_language(name)
    chain = TokenChain.of(language, language.backspace)
    demonstrator = Demonstrator.of(language, chain)
    policy = make_policy(chain, "tabular", seed=0)
    visits = demonstrator.visits(1.0)

    values = values_along(policy, enumerate_demonstrations(demonstrator))
    loss = sft_loss(values).loss

    log_probs = policy.log_probs()[visits.states, visits.labels]
    expected = -(visits.mass * log_probs).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    parameters = list(policy.parameters())
    ours, exact = (torch.autograd.grad(each, parameters)[0] for each in (loss, expected))
    assert torch.allclose(ours, exact, atol=1e-14)


def test_d3_values_telescope_along_every_trajectory() -> None:
    language = get_language("trap")
    chain = TokenChain.of(language, True)
    rows = enumerate_demonstrations(Demonstrator.of(language, chain))

    values = values_along(make_policy(chain, "bounded", seed=0), rows)

    steps = torch.arange(rows.labels.shape[1])
    differences = values.values[:, :-1] - GAMMA * values.values[:, 1:]
    telescoped = (GAMMA**steps * differences * rows.is_action).sum(dim=-1)
    last = values.values.gather(1, rows.num_actions[:, None]).squeeze(1)
    total = telescoped + GAMMA**rows.num_actions * last
    assert torch.allclose(total, values.values[:, 0], atol=1e-12)


def test_values_are_those_of_the_states_and_zero_beyond_the_end() -> None:
    language = get_language("trap")
    chain = TokenChain.of(language, True)
    rows = enumerate_demonstrations(Demonstrator.of(language, chain))
    policy = make_policy(chain, "tabular", seed=1)
    logits, beta = policy.logits().detach(), 0.7

    found = values_along(policy, rows, value_temperature=beta, with_backspace_q=True)

    assert found.tempered_values is not None
    assert found.backspace_q is not None
    assert found.can_delete is not None
    assert found.is_backspace_label is not None
    for row in range(0, len(rows.weights), 37):
        num = int(rows.num_actions[row])
        assert not found.values[row, num + 1 :].any()
        assert not found.chosen_q[row, num:].any()
        assert not found.can_delete[row, num:].any()
        for time in range(num):
            here, label = int(rows.states[row, time]), int(rows.labels[row, time])
            existing = logits[here][chain.exists[here]]
            tempered = beta * torch.logsumexp(existing / beta, 0)
            assert found.values[row, time].item() == pytest.approx(existing.logsumexp(0).item())
            assert found.tempered_values[row, time].item() == pytest.approx(tempered.item())
            assert found.chosen_q[row, time].item() == logits[here, label].item()
            assert bool(found.is_backspace_label[row, time]) == (label == chain.backspace)
            if found.can_delete[row, time]:
                expected = logits[here, chain.backspace].item()
                assert found.backspace_q[row, time].item() == expected
    assert found.backspace_q.isfinite().all()


def test_rollouts_are_the_answers_with_the_policys_probabilities() -> None:
    language = get_language("two_modes")
    chain = TokenChain.of(language, False)
    log_probs = make_policy(chain, "by_position", seed=0).log_probs()

    rows = enumerate_answers(chain, log_probs)

    law = output_law(chain, log_probs).tolist()
    ends = rows.states.gather(1, rows.num_actions[:, None]).squeeze(1)
    assert ends.tolist() == chain.terminal.tolist()
    assert rows.weights.tolist() == pytest.approx(law, rel=1e-12)
    assert not rows.weights.requires_grad
    assert math.fsum(rows.weights.tolist()) == pytest.approx(1.0)


def test_rollouts_with_backspace_are_infinitely_many() -> None:
    chain = TokenChain.of_size(3, 3, True)
    with pytest.raises(ConfigError, match="infinitely many"):
        enumerate_answers(chain, make_policy(chain, "tabular", 0).log_probs())


def test_too_many_demonstrations_are_refused_before_they_are_listed() -> None:
    language = get_language("addition_mod_4")
    chain = TokenChain.of(language, True)
    with pytest.raises(ConfigError, match="allowed: 50,000"):
        enumerate_demonstrations(Demonstrator(language, chain, 0.1, 3, GAMMA))
