"""The form is the config: every field is there once, and what is wrong is told at its field."""

from collections.abc import Mapping

import pytest

from pages.presenters import form_rules
from pages.presenters.choice_wording import CHOICES
from pages.presenters.form_fields import (
    CHOSEN_APART,
    FormField,
    allowed,
    config_values,
    hint,
    is_shown,
    objective_defaults,
    read_form,
    run_fields,
)
from pages.presenters.form_rules import BASIC, SECTIONS, Value
from seqmatch.config import RunConfig
from seqmatch.divergences import divergences_of
from seqmatch.objectives import CONFIGS as OBJECTIVE_CONFIGS
from seqmatch.objectives.dispatch import rollout_config

FIELDS = {item.path: item for item in run_fields()}
CHANGES: Mapping[str, Mapping[str, Value]] = {
    "sequence_match": {"alpha": 0.5, "divergence": "reverse_kl"},
    "forward_kl_occupancy": {"weights": "count_norm"},
    "composite": {"reverse_kl": 0.0, "chi_square_mixture": 2.0},
    "adversarial": {"divergence": "jensen_shannon", "level": "increments"},
    "dense_reward": {"teacher": "sequence_match", "alpha": 0.2},
}
"""What makes the config of a kind another one than that of its defaults."""


def _config(kind: str, **settings: Value) -> RunConfig:
    objective = {"kind": kind, **settings}
    return RunConfig.model_validate({"data": {"dataset": "d" * 64}, "objective": objective})


CONFIGS = {kind: _config(kind, **CHANGES.get(kind, {})) for kind in OBJECTIVE_CONFIGS}
every = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def _values(config: RunConfig, changes: Mapping[str, Value] | None = None) -> dict[str, Value]:
    values: dict[str, Value] = {item.path: item.default for item in FIELDS.values()}
    return values | config_values(config) | dict(changes or {})


@every
def test_a_config_goes_through_the_form_unchanged(config: RunConfig) -> None:
    result = read_form(_values(config))
    assert result.problems == {}
    assert result.config == config


@every
def test_every_setting_has_a_field_or_a_control_of_its_own(config: RunConfig) -> None:
    settings = set(config_values(config)) - {"schema_version"}
    assert settings <= set(FIELDS) | set(CHOSEN_APART)


def test_the_named_fields_exist() -> None:
    paths = {*FIELDS, *(path.rpartition(".")[0] for path in FIELDS)}

    assert {*BASIC, *CHOICES} <= set(FIELDS)
    assert {*SECTIONS, *form_rules.RULES} <= paths


@pytest.mark.parametrize("item", FIELDS.values(), ids=lambda item: item.path)
def test_no_choice_is_a_bare_identifier(item: FormField) -> None:
    for shown, value in item.choices:
        assert shown != value
        assert shown[0].isupper()
    if item.path in CHOICES:
        assert list(item.sentences) == [value for _, value in item.choices]
        assert all(hint(item, value).endswith(".") for value in item.sentences)


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
        ("device", "cuda:0,cuda:0", "named twice"),
        ("objective.corruption.rate", 0.9, "0 to 0.5"),
    ],
)
def test_a_problem_stands_at_its_field_and_says_what_is_allowed(
    path: str, value: Value, words: str
) -> None:
    result = read_form(_values(CONFIGS["sequence_match"], {path: value}))
    assert result.config is None
    assert list(result.problems) == [path]
    assert words in result.problems[path]


def test_what_cannot_be_divided_is_told_at_its_field_where_it_is_shown() -> None:
    changes: dict[str, Value] = {"parallelism": "shard", "objective.target_decay": 0.9}
    one = _values(CONFIGS["sequence_match"], changes)
    several = one | {"device": "cuda,cuda"}
    assert not is_shown(FIELDS["parallelism"], one)
    assert read_form(one).problems == {}
    assert is_shown(FIELDS["parallelism"], several)
    assert "a target network" in read_form(several).problems["parallelism"]


def test_several_problems_are_all_told() -> None:
    changes: dict[str, Value] = {"optimization.num_steps": 0, "checkpoints.keep": 1}
    assert set(read_form(_values(CONFIGS["sft"], changes)).problems) == set(changes)


def test_fields_of_another_objective_are_neither_shown_nor_read() -> None:
    values = _values(CONFIGS["sft"], {"objective.alpha": -1.0})
    assert not is_shown(FIELDS["objective.alpha"], values)
    assert read_form(values).problems == {}


@pytest.mark.parametrize(
    ("kind", "path", "hidden", "shown"),
    [
        ("sequence_match", "divergence_order", {}, {"divergence": "alpha"}),
        ("sequence_match", "mixture_data", {}, {"divergence": "chi_square_mixture"}),
        (
            "sequence_match",
            "mixture_model",
            {"divergence": "chi_square_mixture", "offline": True},
            {"divergence": "chi_square_mixture"},
        ),
        ("sequence_match", "estimator", {"offline": True}, {}),
        ("sequence_match", "corruption.burst", {"backspace": False}, {}),
        ("sequence_match", "corruption.top_k", {}, {"corruption.alphabet": "model_top_k"}),
        (
            "sequence_match",
            "corruption.token_set",
            {"backspace": False, "corruption.alphabet": "token_set"},
            {"corruption.alphabet": "token_set"},
        ),
        ("forward_kl_occupancy", "discount", {}, {"weights": "gamma"}),
        ("composite", "rollouts.every", {"chi_square_mixture": 0.0}, {}),
    ],
)
def test_a_field_is_shown_only_where_it_has_a_meaning(
    kind: str, path: str, hidden: Mapping[str, Value], shown: Mapping[str, Value]
) -> None:
    for changes, expected in ((hidden, False), (shown, True)):
        values = _values(CONFIGS[kind], {f"objective.{key}": one for key, one in changes.items()})
        assert is_shown(FIELDS[f"objective.{path}"], values) is expected


@pytest.mark.parametrize("divergence", divergences_of("sequence_match"))
@pytest.mark.parametrize(
    "settings", [{}, {"offline": True}, {"mixture_model": 0.0}, {"estimator": "paper"}], ids=str
)
def test_rollouts_are_shown_where_the_run_samples_them(
    divergence: str, settings: dict[str, Value]
) -> None:
    config = _config("sequence_match", divergence=divergence, **settings)

    is_there = is_shown(FIELDS["objective.rollouts.every"], _values(config))

    assert is_there == (rollout_config(config.objective) is not None)


@every
def test_each_kind_shows_its_own_fields_first(config: RunConfig) -> None:
    values = _values(config)

    first = [path for path in BASIC if is_shown(FIELDS[path], values)]

    assert "objective.backspace" in first
    assert ("objective.weights" in first) == (config.objective.kind == "forward_kl_occupancy")
    assert ("objective.beta" in first) == (config.objective.kind == "gem")
    assert ("objective.forward_kl" in first) == (config.objective.kind == "composite")


def test_an_empty_field_without_a_meaning_is_no_problem() -> None:
    values = _values(CONFIGS["sequence_match"], {"objective.divergence_order": None})
    assert read_form(values).problems == {}
    values["objective.divergence"] = "alpha"
    assert "objective.divergence_order" in read_form(values).problems


def test_lora_on_a_model_from_scratch_is_refused_with_the_reason() -> None:
    result = read_form(_values(CONFIGS["sft"], {"adapter.kind": "lora"}))
    assert result.config is None
    assert "random weights" in result.problems["adapter.kind"]
    named = _values(CONFIGS["sft"], {"adapter.kind": "lora", "base_model": "a-hub/model"})
    assert read_form(named).problems == {}


def test_a_problem_of_several_fields_stands_at_the_objective() -> None:
    weights: dict[str, Value] = dict.fromkeys(form_rules.WEIGHTS, 0.0)
    result = read_form(_values(CONFIGS["composite"], weights))
    assert "all weights are 0" in result.problems["objective"]


def test_defaults_follow_the_objective() -> None:
    assert objective_defaults("sft")["objective.backspace"] is False
    assert objective_defaults("sequence_match")["objective.backspace"] is True


def test_every_divergence_can_be_chosen() -> None:
    offered = {value for _, value in FIELDS["objective.divergence"].choices}
    assert offered == {*divergences_of("sequence_match"), *divergences_of("adversarial")}


def test_a_divergence_that_an_objective_cannot_use_is_refused_with_the_reason() -> None:
    changes: dict[str, Value] = {"objective.divergence": "total_variation"}

    refused = read_form(_values(CONFIGS["sequence_match"], changes))

    assert "identity" in refused.problems["objective.divergence"]
    assert read_form(_values(CONFIGS["adversarial"], changes)).problems == {}


def test_bounds_read_like_words() -> None:
    assert allowed(FIELDS["optimization.batch_size"]) == "1 to 4,096 demonstrations"
    assert allowed(FIELDS["adapter.kind"]) == "one of LoRA adapter, All weights"
