"""The handlers of the Train page: values and the store in, updates out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pages.components.config_form import field_updates
from pages.components.plain import Tone, plain
from pages.lane import ask, failure, has_ended, result_of
from pages.links import link
from pages.page import AppContext
from pages.presenters.estimates import estimate_html
from pages.presenters.form_fields import (
    FormField,
    FormResult,
    config_values,
    is_shown,
    objective_defaults,
    read_form,
    run_fields,
)
from pages.presenters.form_rules import OBJECTIVE_GROUPS, SECTIONS, Value
from pages.presenters.objective_card import divergence_card, objective_card, reward_card
from pages.presenters.training_choices import (
    dataset_choices,
    missing_devices,
    model_note,
    new_runs,
    parse_seeds,
    suggested_settings,
)
from pages.row_lengths import mean_tokens
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.config_flags import equivalent_command
from seqmatch.errors import ConfigError
from seqmatch.ingest.frozen import ROWS
from seqmatch.jobs.task_types import LengthSummaryRequest, LengthSummaryResult
from seqmatch.objectives.dispatch import warnings_of
from storage.errors import NotFoundError
from storage.ids import new_id
from storage.records import TaskStatus

FIXED = ("data.dataset", "base_model", "seed", "objective.kind")
"""The controls that stand before the fields of the form, in the order of the handlers' values."""

FIRST_OBJECTIVE = "sequence_match"
"""What the form shows before a person says otherwise."""

FIELDS: tuple[FormField, ...] = run_fields()

OBJECTIVE_ROWS: tuple[tuple[FormField, ...], ...] = tuple(
    tuple(item for item in FIELDS if item.path in group) for group in OBJECTIVE_GROUPS
)
"""The fields below the objective's card, row by row."""

ADVANCED: dict[str, tuple[FormField, ...]] = {
    title: items
    for title in dict.fromkeys(SECTIONS.values())
    if (items := tuple(one for one in FIELDS if one.section == title and not one.is_basic))
}
"""The folded fields by their heading."""


@dataclass(frozen=True)
class Check:
    """What stands in the way of a start, in words; empty where nothing does."""

    sentence: str
    is_waiting: bool = False
    """True where the worker has not answered yet."""


def form_values(values: Sequence[Value]) -> dict[str, Value]:
    """Names the values of the controls by their path; the seeds are still a text."""
    paths = (*FIXED, *(item.path for item in FIELDS))
    return dict(zip(paths, values, strict=True))


def read(values: Mapping[str, Value]) -> tuple[FormResult, tuple[int, ...]]:
    """Returns the config of the form with its first seed, or the problems, and the seeds."""
    problems: dict[str, str] = {}
    seeds: tuple[int, ...] = ()
    try:
        seeds = parse_seeds(str(values["seed"] or ""))
    except ConfigError as error:
        problems["seed"] = str(error)
    chosen = dict(values) | {"seed": seeds[0] if seeds else 0}
    if not chosen["data.dataset"]:
        problems["data.dataset"] = "choose a set of demonstrations first"
        chosen["data.dataset"] = "none"
    result = read_form(chosen)
    problems = {**result.problems, **problems}
    return FormResult(None if problems else result.config, problems), seeds


def refresh(context: AppContext, *raw: Value) -> list[Any]:
    """Follows the form: field hints and problems, cards, notes, estimate and command line."""
    values = form_values(raw)
    result, seeds = read(values)
    kind = str(values["objective.kind"])
    base_model = str(values["base_model"])
    prepared = is_prepared(context, base_model)
    card = _divergence_card(values)
    return [
        gr.update(info=_seed_hint(result.problems.get("seed"))),
        objective_card(kind, is_brief=bool(card)),
        gr.update(value=card, visible=bool(card)),
        plain(model_note(base_model, prepared)),
        gr.update(visible=not prepared),
        _estimate(context, result.config, len(seeds)),
        _command(context, result.config, seeds),
        plain(_problems_text(result.problems), "problem"),
        plain(_warnings_text(result.config), "problem"),
        *(
            gr.update(visible=any(is_shown(one, values) for one in items))
            for items in (*OBJECTIVE_ROWS, *ADVANCED.values())
        ),
        *field_updates(FIELDS, values, result.problems),
    ]


def _divergence_card(values: Mapping[str, Value]) -> str:
    """The card of the chosen divergence; empty for an objective without a choice of one."""
    if not is_shown(_field("objective.divergence"), values):
        return ""
    order, alpha = (_number(values[f"objective.{name}"]) for name in ("divergence_order", "alpha"))
    name = str(values["objective.divergence"])
    if values["objective.kind"] == "adversarial":
        return reward_card(name, order)
    return divergence_card(name, order, alpha)


def _field(path: str) -> FormField:
    return next(item for item in FIELDS if item.path == path)


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def choose_objective(context: AppContext, dataset_id: str | None, kind: str) -> list[Any]:
    """Returns what the new objective starts from: its defaults, then what suits the example."""
    values = {**objective_defaults(kind), **suggest(context, dataset_id, kind)}
    return [
        gr.update(value=values[item.path]) if item.path in values else gr.skip() for item in FIELDS
    ]


def choose_model(name: str) -> list[Any]:
    """Returns what to train by default on this base model."""
    model = BASE_MODELS.get(name)
    kind = model.default_adapter if model else "lora"
    return [gr.update(value=kind) if item.path == "adapter.kind" else gr.skip() for item in FIELDS]


def choose_dataset(context: AppContext, dataset_id: str | None, kind: str) -> list[Any]:
    """Returns the settings that fit a bundled example; changes nothing for an upload."""
    values = suggest(context, dataset_id, kind)
    paths = (*FIXED, *(item.path for item in FIELDS))
    return [gr.update(value=values[path]) if path in values else gr.skip() for path in paths]


def suggest(context: AppContext, dataset_id: str | None, kind: str) -> Mapping[str, Value]:
    """Returns the settings that fit a bundled example, by path; none for an upload."""
    try:
        record = context.store.datasets.get(dataset_id) if dataset_id else None
    except NotFoundError:
        return {}
    return suggested_settings(record.summary_json, kind) if record else {}


def prefill(context: AppContext, request: gr.Request) -> list[Any]:
    """Fills the form from the address: `?clone=RUN` or `?dataset=SET`, else the newest set."""
    choices = dataset_choices(context.store.datasets.list())
    values = _values_from_address(context, request, [one for _, one in choices])
    updates: list[Any] = []
    for path in (*FIXED, *(item.path for item in FIELDS)):
        options: dict[str, Any] = {"choices": choices} if path == "data.dataset" else {}
        if path in values:
            options["value"] = str(values[path]) if path == "seed" else values[path]
        updates.append(gr.update(**options) if options else gr.skip())
    return [gr.update(visible=not choices), *updates, str(request.query_params.get("clone", ""))]


def check_task(context: AppContext, config: RunConfig) -> str:
    """Asks the lane how the model's tokenizer sees the set; asking the same twice asks once."""
    return ask(
        context.store,
        "length_summary",
        LengthSummaryRequest(
            dataset_id=config.data.dataset,
            base_model=config.base_model,
            max_tokens=config.data.max_tokens,
        ),
    )


def check_start(context: AppContext, config: RunConfig) -> Check:
    """Tells what stands in the way of starting this config.

    A set without a supervised token, or whose stop token is never trained, cannot be trained on;
    nor can one on devices that are not here, where the runner has said what is here.
    """
    if not is_prepared(context, config.base_model):
        return Check("SmolLM2 is not prepared on this machine yet: press Prepare SmolLM2 first.")
    context.ensure_runner()
    if missing := missing_devices(config.device, context.store.devices.list()):
        return Check(missing)
    task = context.store.tasks.get(check_task(context, config))
    if not has_ended(task):
        return Check("Checking the demonstrations with this model's tokenizer …", is_waiting=True)
    if task.status is not TaskStatus.COMPLETED:
        return Check(f"The demonstrations could not be checked. {failure(task)}")
    return Check(result_of(context.store, task.id, LengthSummaryResult).refusal)


def start(context: AppContext, parent_id: str, *raw: Value) -> list[Any]:
    """Queues the runs when nothing stands in the way; else says what does.

    Returns:
        The status line, whether to ask again in a moment, and the address to go to.
    """
    result, seeds = read(form_values(raw))
    if result.config is None:
        count = len(result.problems)
        words = f"⚠ Not started: {count} field{'s need' if count > 1 else ' needs'} another value."
        return [plain(words, "problem"), gr.Timer(active=False), ""]
    check = check_start(context, result.config)
    if check.sentence:
        words = check.sentence if check.is_waiting else f"⚠ Not started. {check.sentence}"
        tone: Tone = "waiting" if check.is_waiting else "problem"
        return [plain(words, tone), gr.Timer(active=check.is_waiting), ""]
    address = _create(context, result.config, seeds, parent_id)
    return [plain("Started.", "good"), gr.Timer(active=False), address]


def is_prepared(context: AppContext, base_model: str) -> bool:
    """Returns True where the base model's weights are on this machine, or come at the start."""
    model = BASE_MODELS.get(base_model)
    if model is None or model.source != "packaged":
        return True
    return context.is_model_prepared(base_model)


def _create(context: AppContext, config: RunConfig, seeds: Sequence[int], parent_id: str) -> str:
    dataset = context.store.datasets.get(config.data.dataset)
    try:
        parent = context.store.runs.get(parent_id).id if parent_id else None
    except NotFoundError:
        parent = None
    runs = [
        context.store.runs.create(run)
        for run in new_runs(config, seeds, dataset.name, new_id(), parent)
    ]
    context.ensure_runner()
    return link("run", run=runs[0].id) if len(runs) == 1 else link("runs")


def _values_from_address(
    context: AppContext, request: gr.Request, dataset_ids: Sequence[str]
) -> Mapping[str, Value]:
    clone = request.query_params.get("clone")
    if clone:
        try:
            run = context.store.runs.get(str(clone))
        except NotFoundError:
            gr.Warning("The run to clone is no longer here; the form has its defaults.")
        else:
            return config_values(RunConfig.model_validate_json(run.config_json))
    chosen = request.query_params.get("dataset")
    dataset_id = chosen if chosen in dataset_ids else (dataset_ids[0] if dataset_ids else None)
    return {"data.dataset": dataset_id, **suggest(context, dataset_id, FIRST_OBJECTIVE)}


def _estimate(context: AppContext, config: RunConfig | None, num_seeds: int) -> str:
    length = None
    if config is not None:
        rows = context.store.datasets.folder(config.data.dataset) / ROWS
        if rows.is_file():
            length = mean_tokens(rows, config.base_model, config.data.max_tokens)
    return estimate_html(config, num_seeds, context.store.runs.list(limit=200), length)


def _command(context: AppContext, config: RunConfig | None, seeds: Sequence[int]) -> str:
    if config is None:
        return "# appears when every field is right"
    configs = [config.model_copy(update={"seed": seed}) for seed in seeds]
    return "\n".join(equivalent_command(one, data_dir=context.data_dir) for one in configs)


def _seed_hint(problem: str | None) -> str:
    return f"⚠ {problem}" if problem else 'One run for each seed: "0", "0, 1, 2" or "0-4".'


def _warnings_text(config: RunConfig | None) -> str:
    warnings: tuple[str, ...] = ()
    if config is not None:
        warnings = warnings_of(config.objective, config.optimization.batch_size)
    return "\n".join(f"⚠ {warning[0].upper()}{warning[1:]}." for warning in warnings)


def _problems_text(problems: Mapping[str, str]) -> str:
    titles = {item.path: item.title for item in FIELDS} | {"seed": "Seeds"}
    titles |= {"data.dataset": "Demonstrations", "objective": "Objective"}
    lines = [f"⚠ {titles.get(path, path)}: {text}" for path, text in problems.items()]
    return "\n".join(lines)
