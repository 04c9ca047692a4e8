"""The form is the config: every field is there once, and what is wrong is told at its field."""

from collections.abc import Mapping

import pytest

from pages.presenters.form_fields import (
    BASIC,
    CHOSEN_APART,
    SHOWN_WHEN,
    FormField,
    Value,
    allowed,
    config_values,
    hint,
    is_shown,
    objective_defaults,
    read_form,
    run_fields,
)
from seqmatch.config import RunConfig
from seqmatch.divergences import divergences_of
from seqmatch.objectives import SequenceMatchConfig, SFTConfig

FIELDS = {item.path: item for item in run_fields()}
CONFIGS = [
    RunConfig.model_validate({"data": {"dataset": "d" * 64}, "objective": objective})
    for objective in (SFTConfig(), SequenceMatchConfig(alpha=0.5, divergence="reverse_kl"))
]


def _values(config: RunConfig, changes: Mapping[str, Value] | None = None) -> dict[str, Value]:
    values: dict[str, Value] = {item.path: item.default for item in FIELDS.values()}
    return values | config_values(config) | dict(changes or {})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.objective.kind)
def test_a_config_goes_through_the_form_unchanged(config: RunConfig) -> None:
    result = read_form(_values(config))
    assert result.problems == {}
    assert result.config == config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.objective.kind)
def test_every_setting_has_a_field_or_a_control_of_its_own(config: RunConfig) -> None:
    settings = set(config_values(config)) - {"schema_version"}
    assert settings <= set(FIELDS) | set(CHOSEN_APART)


def test_the_named_fields_exist() -> None:
    named = {*BASIC, *SHOWN_WHEN, *(other for other, _ in SHOWN_WHEN.values())}
    assert named <= set(FIELDS) | {"objective.kind"}


@pytest.mark.parametrize("item", FIELDS.values(), ids=lambda item: item.path)
def test_every_field_says_what_it_is(item: FormField) -> None:
    assert item.title != item.path
    assert hint(item)
    assert item.section != "Other"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("optimization.batch_size", 0, "1 to 4,096"),
        ("optimization.batch_size", 1.5, "whole number"),
        ("optimization.learning_rate", 0.0, "more than 0 to 1"),
        ("objective.discount", 1.0, "to below 1"),
        ("objective.divergence", "w2", "known"),
        ("data.max_tokens", None, "8 to 8,192"),
        ("device", "tpu", "tpu"),
        ("objective.corruption.rate", 0.9, "0 to 0.5"),
    ],
)
def test_a_problem_stands_at_its_field_and_says_what_is_allowed(
    path: str, value: Value, words: str
) -> None:
    result = read_form(_values(CONFIGS[1], {path: value}))
    assert result.config is None
    assert list(result.problems) == [path]
    assert words in result.problems[path]


def test_several_problems_are_all_told() -> None:
    changes: dict[str, Value] = {"optimization.num_steps": 0, "checkpoints.keep": 1}
    assert set(read_form(_values(CONFIGS[0], changes)).problems) == set(changes)


def test_fields_of_another_objective_are_neither_shown_nor_read() -> None:
    values = _values(CONFIGS[0], {"objective.alpha": -1.0})
    assert not is_shown(FIELDS["objective.alpha"], values)
    assert read_form(values).problems == {}


def test_fields_without_a_meaning_are_hidden() -> None:
    values = _values(CONFIGS[1], {"objective.corruption.alphabet": "token_set"})
    assert is_shown(FIELDS["objective.corruption.token_set"], values)
    values["objective.backspace"] = False
    assert not is_shown(FIELDS["objective.corruption.token_set"], values)
    assert not is_shown(FIELDS["adapter.rank"], values | {"adapter.kind": "full"})


def test_defaults_follow_the_objective() -> None:
    assert objective_defaults("sft")["objective.backspace"] is False
    assert objective_defaults("sequence_match")["objective.backspace"] is True


def test_every_divergence_can_be_chosen() -> None:
    offered = {value for _, value in FIELDS["objective.divergence"].choices}
    assert offered == set(divergences_of("sequence_match"))
    assert "total_variation" not in offered


def test_bounds_read_like_words() -> None:
    assert allowed(FIELDS["optimization.batch_size"]) == "1 to 4,096 demonstrations"
    assert allowed(FIELDS["adapter.kind"]) == "one of lora, full"
