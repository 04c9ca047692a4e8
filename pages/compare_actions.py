"""The handlers of the Compare page: what the store holds of a comparison, as updates."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from pydantic import ValidationError

from pages.components.plain import Tone, plain
from pages.lane import failure, has_ended, pieces_of, waiting
from pages.links import link
from pages.page import AppContext
from pages.presenters import comparison
from pages.presenters.form_fields import FormField, allowed, model_fields
from pages.presenters.form_rules import Value
from pages.presenters.held_out import (
    demonstrated,
    first_split,
    from_line,
    held_out,
    read_split,
    seen_by,
    split_choices,
    taken_note,
    to_line,
)
from pages.presenters.policy_choices import policy_choices, policy_ref, policy_value
from seqmatch.decoding.config import DecodingConfig
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.ingest import read_frozen
from seqmatch.jobs.policy_folders import has_policy
from seqmatch.jobs.task_types import GenerateChunk, GenerateRequest
from storage.errors import NotFoundError
from storage.records import TaskRecord, TaskStatus

KIND = "generate"
MAX_POLICIES = 4
MAX_PROMPTS = 32
MAX_ROWS_LOOKED_UP = 20_000
"""Expert answers are looked up in sets of so many rows: half a second."""
NUM_FIRST_RUNS = 2
"""Runs chosen where the address names none."""
Seen = tuple[str, int]
"""The comparison that is shown, and the last piece of its output."""
NOTHING_SEEN: Seen = ("", -1)
_NUM_RESULTS = 9
FIELDS: tuple[FormField, ...] = tuple(model_fields(DecodingConfig))
BASIC = ("temperature", "max_new_tokens", "seed")
ORDER = (
    *(one.path for one in FIELDS if one.path in BASIC),
    *(one.path for one in FIELDS if one.path not in BASIC),
)
"""The decoding settings in the order of the page's inputs."""


def from_address(context: AppContext, request: gr.Request) -> list[Any]:
    """Fills the form from the address: a comparison shown again, or runs chosen beforehand.

    Without either, the newest runs that have a policy are chosen.
    """
    choices = _choices(context)
    known = [value for _, value in choices]
    task_id = str(request.query_params.get("comparison", ""))[:64]
    form = _stored(context, task_id)
    if form is None:
        runs = [value for value in known if value.startswith("run:")]
        named = [f"run:{run}" for run in str(request.query_params.get("runs", "")).split(",")]
        wanted = [value for value in named if value in known] or runs[:NUM_FIRST_RUNS]
        chosen = wanted[:MAX_POLICIES]
        values = [gr.skip(), gr.update(choices=choices, value=chosen), gr.skip()]
        decoding = [gr.skip()] * len(ORDER)
    else:
        chosen = [value for value in map(policy_value, form.policies) if value in known]
        values = [
            "\n".join(map(to_line, form.prompts)),
            gr.update(choices=choices, value=chosen),
            ["on" if one else "off" for one in form.backspace],
        ]
        settings = form.decoding.model_dump()
        decoding = [settings[path] for path in ORDER]
    return [*values, *decoding, *_splits(context, chosen), task_id]


def submit(
    context: AppContext,
    held_out_by: str | None,
    prompts: str,
    policies: Sequence[str],
    backspace: Sequence[str],
    *rest: Value,
) -> list[Any]:
    """Queues a comparison; says at once what is missing."""
    try:
        request = read_request(context, prompts, policies, backspace, rest)
    except ConfigError as error:
        return [plain(f"⚠ {error}", "problem"), gr.skip(), ""]
    known = {"references": _references(context, request.prompts, held_out_by)}
    request = request.model_copy(update=known)
    task = context.store.tasks.submit(KIND, request.model_dump_json())
    context.ensure_runner()
    return [
        plain("Waiting for the worker …", "waiting"),
        task.id,
        link("compare", comparison=task.id),
    ]


def read_request(
    context: AppContext,
    prompts: str,
    policies: Sequence[str],
    backspace: Sequence[str],
    settings: Sequence[Value],
) -> GenerateRequest:
    """Makes the request of the form.

    Raises:
        ConfigError: something is missing or has a value that it may not have.
    """
    lines = [from_line(line) for line in prompts.split("\n") if line.strip()]
    if not 1 <= len(lines) <= MAX_PROMPTS:
        raise ConfigError(f"{len(lines)} prompts; give 1 to {MAX_PROMPTS}, one a line")
    if not 1 <= len(policies) <= MAX_POLICIES:
        raise ConfigError(f"{len(policies)} policies; choose 1 to {MAX_POLICIES}")
    if not backspace:
        raise ConfigError("choose with backspace, without backspace, or both")
    choices = _choices(context)
    return GenerateRequest(
        prompts=lines,
        policies=[policy_ref(one, choices) for one in policies],
        backspace=[mode == "on" for mode in ("on", "off") if mode in backspace],
        decoding=_decoding(settings),
    )


def show(context: AppContext, task_id: str, seen: Seen) -> list[Any]:
    """Shows what is new of a comparison; the timer goes on until it ends."""
    if not task_id:
        return [gr.skip()] * _NUM_RESULTS
    task = _task(context, task_id)
    if task is None:
        gone = plain("This comparison is no longer here.", "problem")
        return [gone, *([gr.skip()] * (_NUM_RESULTS - 3)), gr.Timer(active=False), NOTHING_SEEN]
    outputs = context.store.tasks.output(task.id)
    now = (task.id, outputs[-1].seq if outputs else 0)
    if now == seen and not has_ended(task):
        words = _status(context, task, 0, 0) if task.status is TaskStatus.QUEUED else gr.skip()
        return [words, *([gr.skip()] * (_NUM_RESULTS - 1))]
    request, answers = _gathered(context, task)
    end = comparison.longest(answers.values())
    num_done = sum(answer.is_done for answer in answers.values())
    rows = comparison.table_rows(answers.values())
    is_over = has_ended(task)
    return [
        _status(context, task, num_done, len(answers)),
        comparison.comparison_html(request, answers, None),
        comparison.table_html(rows),
        gr.update(visible=True),
        gr.update(maximum=max(end, 1), value=end, visible=is_over and end > 1),
        gr.update(visible=is_over and end > 1, interactive=True),
        gr.update(visible=not is_over),
        gr.Timer(active=not is_over),
        now,
    ]


def stop(context: AppContext, task_id: str) -> list[Any]:
    """Asks the worker to stop; what was written stays, and the timer shows how it ends."""
    if task_id:
        context.store.tasks.cancel(task_id)
    return [plain("Stopping …", "waiting"), gr.Timer(active=bool(task_id))]


def replay(context: AppContext, task_id: str, upto: float) -> str:
    """Shows every answer after its first `upto` actions."""
    task = _task(context, task_id)
    if task is None:
        return ""
    request, answers = _gathered(context, task)
    end = comparison.longest(answers.values())
    return comparison.comparison_html(request, answers, int(upto) if upto < end else None)


def play(upto: float) -> list[Any]:
    """Starts the replay from the beginning."""
    del upto
    return [gr.Timer(active=True), gr.update(value=0), gr.update(interactive=False)]


def play_on(context: AppContext, task_id: str, upto: float) -> list[Any]:
    """Goes one action on; ends after the last one."""
    task = _task(context, task_id)
    if task is None:
        return [gr.skip(), gr.skip(), gr.Timer(active=False), gr.update(interactive=True)]
    request, answers = _gathered(context, task)
    end = comparison.longest(answers.values())
    now = min(int(upto) + 1, end)
    html = comparison.comparison_html(request, answers, now if now < end else None)
    is_over = now >= end
    return [
        gr.update(value=now),
        html,
        gr.Timer(active=not is_over),
        gr.update(interactive=is_over),
    ]


def follow_policies(context: AppContext, policies: Sequence[str]) -> Any:
    """Returns the split of the first chosen run, so that its held-out prompts are offered."""
    wanted = first_split(policies, context.store.runs.list())
    return gr.update(value=wanted) if wanted else gr.skip()


def held_out_prompts(
    context: AppContext, chosen: str | None, number: float | None, policies: Sequence[str]
) -> list[Any]:
    """Takes the first prompts that the runs of a split held out."""
    try:
        count = int(number or 0)
        if not 1 <= count <= MAX_PROMPTS:
            raise ConfigError(f"{count} prompts; give 1 to {MAX_PROMPTS}")
        of = read_split(chosen or "")
        context.store.datasets.get(of.dataset_id)
        found = held_out(read_frozen(context.store.datasets.folder(of.dataset_id)), of)
    except (ConfigError, DemonstrationError, NotFoundError) as error:
        return [gr.skip(), plain(f"⚠ {error}", "problem")]
    seen = seen_by(policies, context.store.runs.list(), of)
    tone: Tone = "problem" if seen or not found.prompts else "good"
    return [
        "\n".join(map(to_line, found.prompts[:count])) if found.prompts else gr.skip(),
        plain(taken_note(found, count, seen), tone),
    ]


def _choices(context: AppContext) -> list[tuple[str, str]]:
    def is_saved(run_id: str) -> bool:
        return has_policy(context.store.run_dir(run_id))

    return policy_choices(context.store.runs.list(), context.allowed_models, is_saved)


def _splits(context: AppContext, policies: Sequence[str]) -> list[Any]:
    """Updates of the choice of held-out prompts and of the fold around it."""
    runs = context.store.runs.list()
    choices = split_choices(context.store.datasets.list(), runs)
    values = [value for _, value in choices]
    wanted = first_split(policies, runs)
    value = wanted if wanted in values else next(iter(values), None)
    return [gr.update(choices=choices, value=value), gr.update(visible=bool(choices))]


def _gathered(context: AppContext, task: TaskRecord) -> tuple[GenerateRequest, comparison.Answers]:
    request = GenerateRequest.model_validate_json(task.payload_json)
    return request, comparison.gather(request, pieces_of(context.store, task.id, GenerateChunk))


def _task(context: AppContext, task_id: str) -> TaskRecord | None:
    try:
        task = context.store.tasks.get(task_id) if task_id else None
    except NotFoundError:
        return None
    return task if task is not None and task.kind == KIND else None


def _stored(context: AppContext, task_id: str) -> GenerateRequest | None:
    task = _task(context, task_id)
    return GenerateRequest.model_validate_json(task.payload_json) if task else None


def _references(
    context: AppContext, prompts: Sequence[str], held_out_by: str | None
) -> list[str | None]:
    """The expert's answers to the prompts that this split holds out; none where it is not known."""
    try:
        of = read_split(held_out_by or "")
        if context.store.datasets.get(of.dataset_id).num_rows > MAX_ROWS_LOOKED_UP:
            return []
        rows = read_frozen(context.store.datasets.folder(of.dataset_id))
        return demonstrated(rows, of, prompts)
    except (ConfigError, DemonstrationError, NotFoundError):
        return []  # no split is chosen, or its set is gone: there is nothing to compare with


def _status(context: AppContext, task: TaskRecord, num_done: int, total: int) -> str:
    if not has_ended(task):
        words = waiting(context.store, task, f"Writing: {num_done} of {total} answers done")
        return plain(words, "waiting")
    tone: Tone = "good" if task.status is TaskStatus.COMPLETED else "problem"
    if task.status is TaskStatus.COMPLETED:
        return plain(f"{total} answers. The address of this page shows them again.", tone)
    return plain(f"⚠ {num_done} of {total} answers were finished. {failure(task)}", tone)


def _decoding(settings: Sequence[Value]) -> DecodingConfig:
    values = dict(zip(ORDER, settings, strict=True))
    try:
        return DecodingConfig.model_validate(values)
    except ValidationError as error:
        fields = {one.path: one for one in FIELDS}
        problem = error.errors()[0]
        item = fields[str(problem["loc"][0])]
        raise ConfigError(
            f"{item.title}: {problem['input']} is not allowed; allowed: "
            f"{allowed(item) or problem['msg'].removeprefix('Value error, ')}"
        ) from error
