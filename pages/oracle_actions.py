"""The handlers of the Oracle page: values and the store in, updates out."""

import time
from collections.abc import Mapping
from typing import Any

import gradio as gr
from pydantic import ValidationError

from pages.components.oracle_results import no_result_updates, num_outputs, result_updates
from pages.components.plain import Tone, plain
from pages.lane import ask, failure, has_ended, pieces_of, waiting
from pages.links import link
from pages.page import AppContext
from pages.presenters import oracle_form as form
from pages.presenters.oracle_view import Experiment, capitalised, gather, progress_html
from pages.presenters.palette import Theme
from pages.presenters.training_choices import parse_seeds
from pages.presenters.wording import ago, duration
from seqmatch.errors import ConfigError, SeqMatchError
from seqmatch.exact.results import TABLE, OraclePiece, OracleRequest
from storage.errors import NotFoundError
from storage.records import TaskRecord, TaskStatus

KIND = "oracle"
Seen = Mapping[str, Any]
"""What a browser has been sent: the task, its last piece, whether it had ended, and the charts."""
EMPTY = (
    "Nothing is trained yet. The objectives that are chosen show covering and seeking side by "
    "side. Training takes seconds, and the results stay at this page's address."
)
_NUM_NUMBERS = 7


def from_address(context: AppContext, request: gr.Request) -> list[Any]:
    """Fills the form with what the experiment in the address asked."""
    task_id = str(request.query_params.get("task", ""))[:64]
    asked = _request(_task(context, task_id))
    num_inputs = 2 + _NUM_NUMBERS + len(form.objective_groups())
    if asked is None:
        return [*([gr.skip()] * num_inputs), task_id]
    return [
        asked.language,
        asked.table,
        asked.alpha,
        form.seeds_text(asked.seeds),
        asked.level,
        asked.policy or form.AS_LANGUAGE,
        form.backspace_value(asked.backspace),
        asked.divergence_order,
        asked.num_simulated,
        *(
            [key for key in asked.objectives if key in dict(group.choices).values()]
            for group in form.objective_groups()
        ),
        task_id,
    ]


def submit(context: AppContext, seen: Seen, *values: Any) -> list[Any]:
    """Queues the form's experiment, or finds the same one; says at once what is missing.

    Returns:
        The status line, the task, its address, the timer that asks for results, and what the
        browser has been sent, from which the status line that is overwritten here is taken out.
    """
    return _submit(context, seen, values, is_new=False)


def submit_again(context: AppContext, seen: Seen, *values: Any) -> list[Any]:
    """Queues the form's experiment although the same one was done; returns what `submit` does."""
    return _submit(context, seen, values, is_new=True)


def _submit(context: AppContext, seen: Seen, values: tuple[Any, ...], *, is_new: bool) -> list[Any]:
    is_sent = {key: value for key, value in seen.items() if key != "status"}
    try:
        request = read(values)
    except SeqMatchError as error:
        return [plain(f"⚠ {error}", "problem"), gr.skip(), "", gr.skip(), is_sent]
    if is_new:
        task_id = context.store.tasks.submit(KIND, request.model_dump_json()).id
    else:
        task_id = ask(context.store, KIND, request)
    context.ensure_runner()
    said = plain("Waiting for the worker …", "waiting")
    # The timer asks too: the same task as before is no change that would.
    return [said, task_id, link("oracle", task=task_id), gr.Timer(active=True), is_sent]


def read(values: tuple[Any, ...]) -> OracleRequest:
    """Makes the request of the form's values, in the order of the page's inputs.

    Raises:
        ConfigError: Something is missing or has a value that it may not have.
    """
    language, table, alpha, seeds, level, policy, *rest = values
    backspace, order, simulated, *groups = rest
    return form.read_request(
        form.FormValues(
            language=str(language),
            table=str(table or ""),
            objectives=[key for group in groups for key in group],
            alpha=alpha,
            seeds=str(seeds or ""),
            level=str(level),
            policy=str(policy),
            backspace=str(backspace),
            divergence_order=order,
            num_simulated=simulated,
        )
    )


def stop(context: AppContext, task_id: str) -> gr.Timer:
    """Asks the worker to stop; what was written stays, and the timer shows how it ends."""
    if task_id:
        context.store.tasks.cancel(task_id)
    return gr.Timer(active=True)


def follow_language(language: str, table: str | None) -> list[Any]:
    """Shows what was chosen or pasted, or the first line of a table that cannot be read."""
    is_table = language == TABLE
    if is_table and not (table or "").strip():
        shown = plain("Paste a table: one answer and its probability a line.", "empty")
    else:
        try:
            shown = form.language_html(language, table or "")
        except SeqMatchError as error:
            shown = plain(f"⚠ {error}", "problem")
    return [gr.update(visible=is_table), shown]


def follow_size(seeds: str | None, *groups: list[str]) -> str:
    """Says how much there is to train."""
    num_objectives = sum(map(len, groups))
    try:
        num_seeds = len(parse_seeds(seeds or ""))
    except ConfigError:
        return ""
    return plain(form.size_words(num_objectives, num_seeds))


def show(context: AppContext, task_id: str, seen: Seen, theme: Theme) -> list[Any]:
    """Shows what is new of an experiment; the timer goes on while something can still come."""
    task = _task(context, task_id)
    if task is None:
        words = "This experiment is no longer here, or its link was cut off." if task_id else EMPTY
        return _nothing(plain(words, "problem" if task_id else "empty"))
    request = _request(task)
    if request is None:
        words = "This experiment was written by another version and cannot be shown."
        return _nothing(plain(words, "problem"))
    outputs = context.store.tasks.output(task.id)
    theme = "dark" if theme == "dark" else "light"
    is_over = has_ended(task)
    now_seen = {"task": task.id, "seq": outputs[-1].seq if outputs else 0, "theme": theme}
    found = gather(request, pieces_of(context.store, task.id, OraclePiece))
    status = _status(context, task, found)
    buttons = [gr.update(visible=not is_over), gr.update(visible=is_over)]
    head = [
        gr.skip() if seen.get("status") == status else status,
        *buttons,
        gr.Timer(active=not is_over),
    ]
    if all(seen.get(key) == value for key, value in now_seen.items()):
        return [{**seen, "status": status}, *head, *no_result_updates()]
    is_same = seen.get("task") == task.id
    updates, drawn = result_updates(found, seen.get("drawn", {}) if is_same else {}, theme)
    return [{**now_seen, "status": status, "drawn": drawn}, *head, *updates]


def _nothing(words: str) -> list[Any]:
    hidden = gr.update(visible=False)
    results = [hidden, *([gr.skip()] * (num_outputs() - 1))]
    return [{}, words, hidden, hidden, gr.Timer(active=False), *results]


def _task(context: AppContext, task_id: str) -> TaskRecord | None:
    try:
        task = context.store.tasks.get(task_id) if task_id else None
    except NotFoundError:
        return None
    return task if task and task.kind == KIND else None


def _request(task: TaskRecord | None) -> OracleRequest | None:
    try:
        return None if task is None else OracleRequest.model_validate_json(task.payload_json)
    except ValidationError:
        return None


def _status(context: AppContext, task: TaskRecord, found: Experiment) -> str:
    now = time.time()
    if not has_ended(task):
        if task.status is TaskStatus.QUEUED:
            return plain(waiting(context.store, task, ""), "waiting")
        stopping = plain("Stopping …", "waiting") if task.is_cancel_requested else ""
        return stopping or progress_html(found, now - (task.started_at or now))
    took = duration((task.ended_at or now) - (task.started_at or task.created_at))
    where = f" on “{found.language.title}”" if found.language else ""
    done = f"{len(found.runs)} of {found.total} runs{where}"
    notes = "" if found.runs else " ".join(["", *found.notes])
    tone: Tone = "good" if task.status is TaskStatus.COMPLETED else "problem"
    if task.status is TaskStatus.COMPLETED:
        when = ago(task.ended_at or now, now)
        words = f"{done} in {took}, {when}. The address of this page shows them again.{notes}"
        return plain(words, tone)
    stay = f" {done} were finished and stay." if found.runs else " Nothing was finished."
    return plain(f"⚠ {capitalised(failure(task))}{stay}{notes}", tone)
