"""Flags are made from the config models, and a config can be written as a command line."""

import argparse
import contextlib
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from seqmatch import config_flags
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.config_flags import (
    add_config_flags,
    equivalent_command,
    merge_settings,
    run_config,
    settings_given,
)
from seqmatch.decoding.config import DecodingConfig
from seqmatch.errors import ConfigError
from seqmatch.jobs.commands import train
from seqmatch.objectives import CONFIGS


def _parser(model: type = RunConfig) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_config_flags(parser, model)
    return parser


def _config(command: str) -> RunConfig:
    arguments = _parser().parse_args(shlex.split(command))
    return run_config({"data": {"dataset": "x"}} | settings_given(arguments))


def test_flags_reach_nested_settings_with_their_types() -> None:
    settings = "--objective.kind sequence_match --objective.rollouts.every 7 --seed 3 "

    config = _config(settings + "--objective.backspace false --optimization.learning_rate 2e-4")

    assert config.objective.kind == "sequence_match"
    assert config.objective.rollouts.every == 7
    assert config.objective.backspace is False
    assert config.optimization.learning_rate == 2e-4
    assert config.seed == 3


def test_every_setting_has_a_flag() -> None:
    text = _parser().format_help()

    for path in ("--checkpoints.keep", "--objective.corruption.token_set", "--adapter.rank"):
        assert path in text
    assert "--schema_version" not in text
    assert "{" + ",".join(CONFIGS) + "}" in text


def test_another_model_has_its_own_flags() -> None:
    arguments = _parser(DecodingConfig).parse_args(["--temperature", "0"])

    assert settings_given(arguments, DecodingConfig) == {"temperature": "0"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimization": {"num_steps": 0}}, "optimization.num_steps: Input should be greater"),
        ({"objective": {"alpha": 3}}, "objective.alpha: Extra inputs are not permitted"),
        ({"sed": 1}, "sed: Extra inputs"),
        ({"objective": {"kind": "sfd"}}, ", ".join(f"'{kind}'" for kind in CONFIGS)),
        ({"device": "tpu"}, "device: Value error, no device.*allowed: auto, cpu"),
        ({"objective": {"kind": "sequence_match", "divergence": "total_variation"}}, "identity"),
        (
            {"objective": {"kind": "sequence_match", "divergence_order": 3}},
            "divergence_order: Input should be less than or equal to 2",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config({"data": {"dataset": "x"}, **settings})


def test_all_wrong_settings_are_named_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        run_config({"data": {"dataset": "x"}, "seed": -1, "device": "tpu"})

    assert "seed" in str(caught.value)
    assert "device" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_go_over_others_part_by_part() -> None:
    base = {"seed": 1, "optimization": {"num_steps": 5, "batch_size": 2}}

    merged = merge_settings(base, {"optimization": {"num_steps": 7}})

    assert merged == {"seed": 1, "optimization": {"num_steps": 7, "batch_size": 2}}
    assert base["optimization"] == {"num_steps": 5, "batch_size": 2}


def test_another_objective_drops_the_settings_of_the_first() -> None:
    base = {"objective": {"kind": "sequence_match", "alpha": 0.1}}

    assert merge_settings(base, {"objective": {"kind": "sft"}}) == {"objective": {"kind": "sft"}}


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "--objective.kind sequence_match --objective.alpha 0.5 --objective.backspace false",
        "--objective.kind sft --objective.backspace true --objective.corruption.rate 0.2",
        "--name 'two words; $(rm)' --optimization.schedule constant --device cpu",
        "--name=-dash --objective.corruption.alphabet token_set "
        "--objective.corruption.token_set '0 1'",
    ],
)
def test_the_equivalent_command_gives_the_same_config(settings: str) -> None:
    config = _config(settings)

    command = shlex.split(equivalent_command(config))

    assert command[:6] == ["python", "-m", "seqmatch", "train", "--data", "x"]
    assert _config(shlex.join(command[6:])) == config


SETTINGS = [
    (kind, path)
    for kind, model in CONFIGS.items()
    for path in config_flags._settings(model)
    if path != "kind" and (kind, path) != ("spin", "backspace")  # only False is allowed
]
COMPANIONS: dict[str, dict[str, Any]] = {
    "reward": {"objective": {"divergence": "forward_kl"}},
    "policy_step.baseline": {"objective": {"level": "trajectory"}},
    "discriminator.backbone": {"adapter": {"kind": "lora"}},
}
"""What must go with another value of a setting of adversarial imitation."""


@pytest.mark.parametrize(("kind", "path"), SETTINGS)
def test_every_setting_of_every_objective_survives_the_command(kind: str, path: str) -> None:
    """Each alone at another value than its default, through the command line and through JSON."""
    config = _with_another_value(kind, path)
    assert config is not None, f"no other value of {path} is allowed"

    command = shlex.split(equivalent_command(config))

    assert f"--objective.{path}" in command
    assert _config(shlex.join(command[6:])) == config
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def _with_another_value(kind: str, path: str) -> RunConfig | None:
    """The first config with a value of this setting that is allowed and not the default."""
    usual = run_config({"data": {"dataset": "x"}, "objective": {"kind": kind}})
    default: Any = usual.objective
    for name in path.split("."):
        default = getattr(default, name)
    others: list[Any] = [
        True,
        False,
        2,
        0,
        0.5,
        0.125,
        "paper",
        "count",
        "model_top_k",
        "reverse_kl",
        "forward_kl",
        "sequence_match",
        *(
            choice
            for field in config_flags._settings(CONFIGS[kind])[path]
            for choice in get_args(field.annotation)
        ),
        16,
        64,
        0.75,
    ]
    for value in [*others, "some text"]:
        nested: Any = value
        for name in reversed(path.split(".")):
            nested = {name: nested}
        settings = {"data": {"dataset": "x"}, "objective": {"kind": kind, **nested}}
        if kind == "adversarial":
            settings = merge_settings(settings, COMPANIONS.get(path, {}))
        if type(value) is not type(default) or value == default:
            continue
        with contextlib.suppress(ConfigError):
            return run_config(settings)
    return None


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("base_model", [*BASE_MODELS, "owner/model"])
def test_the_equivalent_command_says_what_is_trained(
    base_model: str, kind: str, tmp_path: Path
) -> None:
    config = _config(f"--base_model {base_model} --adapter.kind {kind}")
    parser = argparse.ArgumentParser(allow_abbrev=False)
    train.add_arguments(parser)

    command = shlex.split(equivalent_command(config, data_dir=tmp_path))
    arguments = parser.parse_args(command[4:])
    settings = merge_settings(train.requested_settings(arguments), {"data": {"dataset": "x"}})

    assert run_config(settings) == config
    assert arguments.data_dir == tmp_path


def test_the_equivalent_command_leaves_out_the_usual_folder() -> None:
    command = equivalent_command(_config(""), data_dir=Path("seqmatch-data").resolve())

    assert "--data-dir" not in command
