"""Seeds, groups of runs, cards and estimates of the Train page."""

import json

import pytest

from pages.presenters.objective_card import divergence_card, objective_card
from pages.presenters.training_choices import (
    MAX_SEED,
    MAX_SEEDS,
    missing_devices,
    model_note,
    new_runs,
    parse_seeds,
    suggested_settings,
)
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.divergences import DIVERGENCES
from seqmatch.errors import ConfigError
from seqmatch.objectives.catalogue import OBJECTIVES
from storage.records import DeviceSlot

CONFIG = RunConfig.model_validate({"data": {"dataset": "d" * 64}})


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0", (0,)),
        ("0, 1,2", (0, 1, 2)),
        ("3 1", (3, 1)),
        ("0-3", (0, 1, 2, 3)),
        ("7; 9-10", (7, 9, 10)),
        (str(MAX_SEED), (MAX_SEED,)),
    ],
)
def test_seeds_are_read(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " , ",
        "x",
        "-1",
        "1.5",
        "1-",
        "3-1",
        "0,0",
        "0-99",
        str(MAX_SEED + 1),
        "²",
        "0-999999999",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_seeds(text)


def test_no_more_seeds_than_allowed() -> None:
    assert len(parse_seeds(f"0-{MAX_SEEDS - 1}")) == MAX_SEEDS
    with pytest.raises(ConfigError):
        parse_seeds(f"0-{MAX_SEEDS}")


def test_runs_of_several_seeds_share_a_group_and_say_their_seed() -> None:
    runs = new_runs(CONFIG, (0, 5), "additions", "group", None)
    assert [run.seed for run in runs] == [0, 5]
    assert {run.group for run in runs} == {"group"}
    assert [run.name for run in runs] == ["SFT on additions, seed 0", "SFT on additions, seed 5"]
    assert [RunConfig.model_validate_json(run.config_json).seed for run in runs] == [0, 5]


def test_one_run_has_no_group() -> None:
    (run,) = new_runs(CONFIG, (3,), "x" * 300, "group", "parent")
    assert run.group == ""
    assert run.parent_id == "parent"
    assert len(run.name) <= 120
    assert RunConfig.model_validate_json(run.config_json).name == run.name


def test_suggestions_are_read_by_path_and_objective() -> None:
    summary = {"suggested_config": {"sft": {"optimization": {"num_steps": 7}, "base_model": "m"}}}
    assert suggested_settings(json.dumps(summary), "sft") == {
        "optimization.num_steps": 7,
        "base_model": "m",
    }
    assert suggested_settings(json.dumps(summary), "sequence_match") == {}
    assert suggested_settings("", "sft") == {}


@pytest.mark.parametrize("name", DIVERGENCES)
def test_each_divergence_says_what_it_is(name: str) -> None:
    card = divergence_card(name)
    assert DIVERGENCES[name].sentence in card
    assert f"$${DIVERGENCES[name].formula}$$" in card
    assert "**Needs:**" in card
    assert "mass-covering" in card or "mode-seeking" in card
    assert DIVERGENCES[name].generator_formula in card
    assert DIVERGENCES[name].phi_formula in card
    assert DIVERGENCES[name].source in card
    assert "**Symmetric:** " + ("yes" if DIVERGENCES[name].is_symmetric else "no") in card


@pytest.mark.parametrize("name", DIVERGENCES)
def test_at_a_small_alpha_the_card_promises_nothing(name: str) -> None:
    words = "close to discounted likelihood"
    is_trained = "sequence_match" in DIVERGENCES[name].families

    assert (words in divergence_card(name, alpha=0.01)) == is_trained
    assert words not in divergence_card(name, alpha=1.0)
    assert words not in divergence_card(name)


def test_the_card_of_a_family_is_that_of_its_order() -> None:
    assert "(order 1)" in divergence_card("alpha", 1.0)
    assert "mode-seeking: " in divergence_card("alpha", 1.0)
    assert "mass-covering: " in divergence_card("alpha", 0.0)
    assert "(order 0.5)" in divergence_card("alpha", 7.0)
    assert "0.005 d²" in divergence_card("forward_kl", alpha=0.01)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_each_objective_says_what_it_is(kind: str) -> None:
    assert OBJECTIVES[kind].sentence in objective_card(kind)
    assert "**Needs:**" not in objective_card(kind, is_brief=True)


@pytest.mark.parametrize("name", BASE_MODELS)
def test_each_base_model_says_its_size_and_licence(name: str) -> None:
    note = model_note(name, is_prepared=False)
    assert "parameters; licence:" in note
    assert "Not prepared" in note


def test_devices_that_are_not_here_are_told_before_the_start() -> None:
    slots = [DeviceSlot(name, None) for name in ("cuda:0", "cuda:1", "cpu:0", "cuda:0:1")]
    assert missing_devices("cuda,cuda", slots) == ""
    assert missing_devices("auto", slots) == ""
    assert missing_devices("cuda,cuda,cuda", []) == "", "nobody has looked yet"
    words = "This machine has cuda:0, cuda:1, cpu:0, and Device asks for cuda,cuda,cuda."
    assert missing_devices("cuda,cuda,cuda", slots) == words
