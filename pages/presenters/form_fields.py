"""The fields of a config as data for a form, and what a form filled in says back.

Titles, descriptions, bounds, choices and defaults are read from the config models, so a setting is
written once. A field is named by its path in the config, "optimization.num_steps".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pages.presenters.choice_wording import CHOICES
from pages.presenters.form_rules import BASIC, Value, has_meaning, section_of
from seqmatch.base_models import check_adapter
from seqmatch.config import RunConfig
from seqmatch.divergences import divergences_of
from seqmatch.errors import ConfigError

Kind = Literal["int", "float", "bool", "choice", "text"]

CHOSEN_APART = ("data.dataset", "base_model", "seed", "objective.kind")
"""Fields with a control of their own on the page."""

NOT_FIELDS = ("schema_version", "objective.kind")
"""The version is ours; the kind of objective has a control of its own."""


@dataclass(frozen=True)
class FormField:
    """One input of a form."""

    path: str
    title: str
    description: str
    kind: Kind
    default: Value
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    """(shown, value) of each choice."""
    sentences: Mapping[str, str] = field(default_factory=dict)
    """What each choice means, where its name does not say it all."""
    minimum: float | None = None
    maximum: float | None = None
    is_minimum_allowed: bool = True
    is_maximum_allowed: bool = True
    objectives: frozenset[str] = frozenset()
    """The kinds of objective that have this field; empty for all."""

    @property
    def is_basic(self) -> bool:
        """True where the field is shown without unfolding anything."""
        return self.path in BASIC

    @property
    def section(self) -> str:
        """The heading that the field stands under."""
        return section_of(self.path)


@dataclass(frozen=True)
class FormResult:
    """A config, or what is wrong with which field ("" for the form as a whole)."""

    config: RunConfig | None
    problems: Mapping[str, str] = field(default_factory=dict)


def model_fields(model: type[BaseModel], prefix: str = "") -> Iterator[FormField]:
    """Yields the fields of a config model, nested models included, unions merged by path."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        members = _members(info.annotation)
        if not members:
            if path not in NOT_FIELDS:
                yield _form_field(path, info)
        elif len(members) == 1:
            yield from model_fields(members[0], f"{path}.")
        else:
            yield from _union_fields(members, f"{path}.")


def run_fields() -> tuple[FormField, ...]:
    """Returns the fields of a training run, those with a control of their own left out."""
    return tuple(item for item in model_fields(RunConfig) if item.path not in CHOSEN_APART)


def objective_defaults(kind: str) -> dict[str, Value]:
    """Returns the default of each field of this kind of objective, by its path."""
    member = _objective_members()[kind]
    return {item.path: item.default for item in model_fields(member, "objective.")}


def config_values(config: BaseModel, prefix: str = "") -> dict[str, Value]:
    """Returns the values of a config by path: the inverse of `read_form`."""
    values: dict[str, Value] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            values.update(config_values(value, f"{prefix}{name}."))
        else:
            values[f"{prefix}{name}"] = value
    return values


def is_shown(item: FormField, values: Mapping[str, Value]) -> bool:
    """Returns True where the field has a meaning beside these values of the others."""
    if item.objectives and values.get("objective.kind") not in item.objectives:
        return False
    return has_meaning(item.path, values)


def allowed(item: FormField) -> str:
    """Returns what a field may hold, in words: "1 to 4,096 demonstrations"."""
    if item.kind in ("bool", "text"):
        return ""
    if item.kind == "choice":
        return "one of " + ", ".join(shown for shown, _ in item.choices)
    low, high = item.minimum, item.maximum
    if item.unit.startswith("share"):
        return f"{number(low or 0)} to {number(high or 1)}, a {item.unit}"
    unit = f" {item.unit}" if item.unit else ""
    if low is not None and high is not None:
        words = "to" if item.is_maximum_allowed else "to below"
        more = "" if item.is_minimum_allowed else "more than "
        return f"{more}{number(low)} {words} {number(high)}{unit}"
    if low is not None:
        return f"{number(low)} or more{unit}" if item.is_minimum_allowed else f"above {number(low)}"
    return item.unit


def hint(item: FormField, value: Value = None) -> str:
    """Returns the line under a field: its meaning, or that of its choice, and what it may hold."""
    if str(value) in item.sentences:
        return item.sentences[str(value)]
    bounds = allowed(item) if item.kind in ("int", "float") else ""
    if bounds and item.kind == "int" and item.maximum is not None and item.maximum >= 2**31 - 1:
        bounds = f"{number(item.minimum or 0)} or more"
    return " ".join(part for part in (item.description, f"({bounds})" if bounds else "") if part)


def read_form(values: Mapping[str, Value]) -> FormResult:
    """Makes a config of the values of a form; each problem is told at its field.

    Fields that the chosen objective does not have are left out, and so are empty ones that have no
    meaning beside the others. Any other field left empty is a problem of that field, never silently
    its default.
    """
    fields = {item.path: item for item in run_fields()}
    kind = str(values.get("objective.kind"))
    problems: dict[str, str] = {}
    tree: dict[str, Any] = {}
    for path, value in values.items():
        item = fields.get(path)
        if item is not None and item.objectives and kind not in item.objectives:
            continue
        if value is None and item is not None and not is_shown(item, values):
            continue
        if value is None:
            problems[path] = f"is empty; {allowed(item) if item else 'a value'} is needed"
        _plant(tree, path, value)
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        for problem in error.errors():
            path = _path(problem["loc"])
            problems.setdefault(path, _sentence(fields.get(path), problem))
        return FormResult(None, problems)
    try:
        check_adapter(config.base_model, config.adapter.kind)
    except ConfigError as error:
        problems.setdefault("adapter.kind", str(error))
    return FormResult(config if not problems else None, problems)


def sentence(error: Exception) -> str:
    """Returns what an error says to a person; of a refused config, its first problem."""
    if isinstance(error, ValidationError):
        problem = error.errors()[0]
        name = str(problem["loc"][-1]).replace("_", " ")
        return f"{name}: {problem['input']} is not allowed: {problem['msg']}"
    return str(error)


def number(value: float) -> str:
    """Returns a number as people write it: 4,096; 0.998; 0.00001."""
    if float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.10f}".rstrip("0")


def _plant(tree: dict[str, Any], path: str, value: Value) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _path(location: tuple[str | int, ...]) -> str:
    # The location of a member of the union carries the member's tag: objective.sft.backspace.
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] == "objective" and parts[1] in _objective_members():
        del parts[1]
    return ".".join(parts)


def _sentence(item: FormField | None, problem: Mapping[str, Any]) -> str:
    if item is None:
        return str(problem["msg"]).removeprefix("Value error, ")
    if item.kind == "choice" or item.kind == "text":
        return f"{problem['input']!r}: {problem['msg'].removeprefix('Value error, ')}"
    wanted = "a whole number, " if item.kind == "int" else ""
    return f"{problem['input']} is not allowed here; allowed: {wanted}{allowed(item)}"


def _form_field(path: str, info: FieldInfo) -> FormField:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    low, high, low_allowed, high_allowed = _bounds(info)
    choices = _choices(path, info)
    wording = CHOICES.get(path, {})
    return FormField(
        path=path,
        title=info.title or path,
        description=info.description or "",
        kind=_kind(info, choices),
        default=None if info.is_required() else info.get_default(call_default_factory=False),
        unit=str(extra.get("unit", "")),
        choices=choices,
        sentences={value: choice.sentence for value, choice in wording.items()},
        minimum=low,
        maximum=high,
        is_minimum_allowed=low_allowed,
        is_maximum_allowed=high_allowed,
    )


def _kind(info: FieldInfo, choices: tuple[tuple[str, str], ...]) -> Kind:
    if choices:
        return "choice"
    kinds: dict[Any, Kind] = {int: "int", float: "float", bool: "bool"}
    return kinds.get(info.annotation, "text")


def _choices(path: str, info: FieldInfo) -> tuple[tuple[str, str], ...]:
    if path == "objective.divergence":
        # What one objective cannot use is said at the field, with the reason.
        offered = {**divergences_of("sequence_match"), **divergences_of("adversarial")}
        return tuple((entry.title, name) for name, entry in offered.items())
    if get_origin(info.annotation) is Literal:
        wording = CHOICES.get(path, {})
        values = [str(value) for value in get_args(info.annotation)]
        return tuple((wording[one].title if one in wording else one, one) for one in values)
    return ()


def _bounds(info: FieldInfo) -> tuple[float | None, float | None, bool, bool]:
    low: float | None = None
    high: float | None = None
    low_allowed = high_allowed = True
    for constraint in info.metadata:
        if (value := getattr(constraint, "ge", None)) is not None:
            low = value
        if (value := getattr(constraint, "gt", None)) is not None:
            low, low_allowed = value, False
        if (value := getattr(constraint, "le", None)) is not None:
            high = value
        if (value := getattr(constraint, "lt", None)) is not None:
            high, high_allowed = value, False
    return low, high, low_allowed, high_allowed


def _members(annotation: Any) -> list[type[BaseModel]]:
    candidates = get_args(annotation) if _is_union(annotation) else (annotation,)
    return [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]


def _is_union(annotation: Any) -> bool:
    origin = get_origin(annotation)
    return origin is Union or getattr(origin, "__name__", "") == "UnionType"


def _objective_members() -> dict[str, type[BaseModel]]:
    members = _members(RunConfig.model_fields["objective"].annotation)
    return {str(member.model_fields["kind"].default): member for member in members}


def _union_fields(members: list[type[BaseModel]], prefix: str) -> Iterator[FormField]:
    merged: dict[str, FormField] = {}
    owners: dict[str, set[str]] = {}
    for member in members:
        for item in model_fields(member, prefix):
            merged.setdefault(item.path, item)
            owners.setdefault(item.path, set()).add(str(member.model_fields["kind"].default))
    for path, item in merged.items():
        everywhere = len(owners[path]) == len(members)
        kinds = frozenset() if everywhere else frozenset(owners[path])
        yield FormField(**{**vars(item), "objectives": kinds})
