"""A new divergence is one record: nothing else needs an edit before it can be trained on."""

import math

import pytest
import torch

from pages.presenters.form_fields import config_values, read_form, run_fields
from pages.presenters.objective_card import divergence_card
from seqmatch.config import RunConfig
from seqmatch.divergences import DIVERGENCES, Divergence, divergences_of, get_divergence
from seqmatch.divergences.log_space import exp_minus_one
from seqmatch.exact.choices import oracle_objectives
from seqmatch.exact.divergence_values import divergence_value
from seqmatch.objectives.sequence_match import SequenceMatchConfig, divergence_of
from tests.unit.seqmatch.divergence_contract import CHECKS, Check

CUBIC = Divergence(
    name="cubic",
    title="Cubic",
    sentence="Makes the model's excesses over the demonstrations cost with their cube.",
    formula=r"\tfrac13 \mathbb{E}_{\rho_{\text{data}}}[(\rho_\theta/\rho_{\text{data}})^3] - 1",
    generator_formula=r"f(u) = \tfrac13 u^3 - u + \tfrac23",
    phi_formula=r"\varphi(x) = \tfrac23 - \tfrac23 (1 - x)^{3/2}",
    reward_formula=r"R(h) = 1 - e^{-2h}",
    # (u - 1)^2 (u + 2)/3, with f' = u^2 - 1 and so r* = 1 - u^2.
    generator_of_log_ratio=lambda w: exp_minus_one(w).square() * (w.exp() + 2) / 3,
    policy_reward=lambda h: -exp_minus_one(-2 * h),
    second_derivative=2.0,
    at_zero=2 / 3,
    at_infinity=math.inf,
    domain_minimum=-math.inf,
    linear_below=-20.0,
    linear_above=0.99,
    phi_inside=lambda x: -2 / 3 * exp_minus_one(1.5 * (-x).log1p()),
    phi_prime_inside=lambda x: (1 - x).sqrt(),
    behaviour="mode-seeking",
    is_symmetric=False,
    needs="demonstrations only",
    source="this test",
)


@pytest.fixture
def cubic(monkeypatch: pytest.MonkeyPatch) -> Divergence:
    monkeypatch.setitem(DIVERGENCES, "cubic", CUBIC)
    return CUBIC


def test_unknown_before_it_is_registered() -> None:
    with pytest.raises(ValueError, match="unknown divergence 'cubic'; known: alpha"):
        SequenceMatchConfig(divergence="cubic")
    assert "cubic" not in divergences_of("exact")


def test_one_record_reaches_configs_schema_form_card_and_choices(cubic: Divergence) -> None:
    config = RunConfig.model_validate(
        {"data": {"dataset": "d"}, "objective": {"kind": "sequence_match", "divergence": "cubic"}}
    )
    schema = RunConfig.model_json_schema()["$defs"]["SequenceMatchConfig"]["properties"]
    fields = {item.path: item for item in run_fields()}

    assert isinstance(config.objective, SequenceMatchConfig)
    assert divergence_of(config.objective) is cubic
    assert "cubic" in schema["divergence"]["choices"]
    assert ("Cubic", "cubic") in fields["objective.divergence"].choices
    assert read_form(config_values(config)).config == config
    assert cubic.sentence in divergence_card("cubic", alpha=0.01)
    assert {"exact:cubic", "sequence_match:cubic"} <= set(oracle_objectives())


def test_one_record_has_an_exact_value(cubic: Divergence) -> None:
    data = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    model = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)

    found = divergence_value("cubic", data, model)

    expected = ((model / data) ** 3 * data).sum() / 3 - 1 / 3
    assert float(found) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_one_record_is_held_to_the_contract(cubic: Divergence, check: Check) -> None:
    check(get_divergence("cubic"))


def test_the_contract_catches_a_wrong_sign(cubic: Divergence) -> None:
    """The contract is no formality: phi with its sign turned fails at once."""
    wrong = Divergence(**{**vars(cubic), "phi_inside": lambda x: -cubic.phi_inside(x)})

    with pytest.raises(AssertionError):
        _check_all(wrong)


def _check_all(divergence: Divergence) -> None:
    for check in CHECKS:
        check(divergence)


def test_a_record_that_a_family_cannot_use_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Divergence(**{**vars(CUBIC), "left_out": {"sequence_match": "it is for exact sums"}})
    monkeypatch.setitem(DIVERGENCES, "cubic", record)

    with pytest.raises(ValueError, match="'cubic' is not for SequenceMatch: it is for exact sums"):
        SequenceMatchConfig(divergence="cubic")
    assert "exact:cubic" in oracle_objectives()
    assert "sequence_match:cubic" not in oracle_objectives()
