"""Command-line flags made from the config models, and the command line of a config. Light.

A setting's flag is its path, `--optimization.num_steps`; its help, unit and default are those of
the model, so a new setting has a flag without a word here.
"""

import argparse
import shlex
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.errors import ConfigError
from seqmatch.objectives.catalogue import OBJECTIVES

DEFAULT_DATA_DIR = Path("seqmatch-data")
"""Where commands look for the store if they are not told."""
_NOT_FLAGS = ("schema_version", "data.dataset")
"""The version is ours; the demonstrations are chosen with --data."""


def add_config_flags(parser: argparse.ArgumentParser, model: type[BaseModel] = RunConfig) -> None:
    """Adds one flag for each setting of the model, in one group for each of its parts."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for path, fields in _settings(model).items():
        if path in _NOT_FLAGS:
            continue
        title = path.rpartition(".")[0] or "run"
        group = groups.get(title) or groups.setdefault(
            title, parser.add_argument_group(f"settings: {title}")
        )
        group.add_argument(
            f"--{path}",
            dest=path,
            default=argparse.SUPPRESS,
            metavar=_metavar(fields),
            help=_help(fields).replace("%", "%%"),
        )


def settings_given(
    arguments: argparse.Namespace, model: type[BaseModel] = RunConfig
) -> dict[str, Any]:
    """Returns the settings that were given as flags, nested as the model nests them."""
    nested: dict[str, Any] = {}
    for path in _settings(model):
        if hasattr(arguments, path):
            *parents, name = path.split(".")
            level = nested
            for parent in parents:
                level = level.setdefault(parent, {})
            level[name] = getattr(arguments, path)
    return nested


def merge_settings(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with `changes` put over it, part by part.

    Where the changes choose another kind (of objective), the base's settings of the old kind go.
    """
    merged = dict(base)
    for name, value in changes.items():
        before = merged.get(name)
        is_other_kind = (
            isinstance(before, Mapping)
            and isinstance(value, Mapping)
            and "kind" in value
            and "kind" in before
            and name == "objective"
            and value["kind"] != before["kind"]
        )
        if isinstance(before, Mapping) and isinstance(value, Mapping) and not is_other_kind:
            merged[name] = merge_settings(before, value)
        else:
            merged[name] = value
    return merged


def run_config(settings: Mapping[str, Any]) -> RunConfig:
    """Returns the config of these settings; an objective without a kind is the usual one.

    Raises:
        ConfigError: A setting is unknown or has a value that it may not have; all are named.
    """
    objective = {"kind": default_kind(), **settings.get("objective", {})}
    try:
        return RunConfig.model_validate({**settings, "objective": objective})
    except ValidationError as error:
        raise ConfigError(validation_message(error)) from error


def default_kind() -> str:
    """Returns the kind of objective of a config that names none."""
    return str(RunConfig.model_fields["objective"].default.kind)


def validation_message(error: ValidationError) -> str:
    """Returns all problems of a refused config in one line, each with the path of its setting."""
    return "; ".join(
        f"{_path_of(problem['loc'])}: {problem['msg']} (found {problem['input']!r:.80})"
        for problem in error.errors(include_url=False)
    )


def equivalent_command(
    config: RunConfig, data: str | None = None, data_dir: Path | None = None
) -> str:
    """Returns the shell command that queues this config; settings at their default are left out.

    Args:
        config: The config.
        data: What --data gets; the config's dataset where it is None.
        data_dir: The store's folder; named where it is not the one that commands take by default.
    """
    parts = ["python", "-m", "seqmatch", "train", "--data", data or config.data.dataset]
    if data_dir is not None and data_dir.resolve() != DEFAULT_DATA_DIR.resolve():
        parts += ["--data-dir", str(data_dir)]
    defaults = _flat(run_config({"data": {"dataset": "x"}}).model_dump(mode="json"))
    if config.base_model in BASE_MODELS:
        # `train` starts from what suits the base model, not from the config's own default.
        defaults["adapter.kind"] = BASE_MODELS[config.base_model].default_adapter
    kind = config.objective.kind
    if kind != default_kind():
        defaults = {k: v for k, v in defaults.items() if not k.startswith("objective.")}
        defaults |= _flat({"objective": type(config.objective)().model_dump(mode="json")})
        parts += ["--objective.kind", kind]
    for path, value in _flat(config.model_dump(mode="json")).items():
        if path not in (*_NOT_FLAGS, "objective.kind") and defaults.get(path) != value:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            parts += [f"--{path}={text}"] if text.startswith("-") else [f"--{path}", text]
    return shlex.join(parts)


def _settings(model: type[BaseModel], prefix: str = "") -> dict[str, list[FieldInfo]]:
    """The settings by path; one that several members of a union share has several fields."""
    found: dict[str, list[FieldInfo]] = {}
    for name, field in model.model_fields.items():
        parts = _models_in(field.annotation)
        for part in parts:
            for path, fields in _settings(part, f"{prefix}{name}.").items():
                found.setdefault(path, []).extend(fields)
        if not parts:
            found[prefix + name] = [field]
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _metavar(fields: list[FieldInfo]) -> str:
    field = fields[0]
    if typing.get_origin(field.annotation) is typing.Literal:
        choices = dict.fromkeys(
            str(choice) for each in fields for choice in typing.get_args(each.annotation)
        )
        return "{" + ",".join(choices) + "}"
    if field.annotation is bool:
        return "{true,false}"
    extra = field.json_schema_extra
    unit = extra.get("unit") if isinstance(extra, dict) else None
    return str(unit).upper().replace(" ", "_") if unit else "VALUE"


def _help(fields: list[FieldInfo]) -> str:
    description = next((field.description for field in fields if field.description), "")
    defaults = dict.fromkeys(str(field.default) for field in fields if not field.is_required())
    shown = " or ".join(text for text in defaults if text)
    return f"{description} Default: {shown}.".strip() if shown else description


def _path_of(location: tuple[int | str, ...]) -> str:
    """The path without the tag that pydantic puts after a union's name."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] == "objective" and parts[1] in OBJECTIVES:
        del parts[1]
    return ".".join(parts) or "config"


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
