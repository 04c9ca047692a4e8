"""The handlers of the Lens tab: values and the store in, updates out."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

import gradio as gr
from pydantic import ValidationError

from pages.components.plain import Tone, plain
from pages.lane import failure, has_ended, pieces_of, waiting
from pages.page import AppContext
from pages.presenters import heat_map, lens
from pages.presenters.palette import Theme
from pages.presenters.wording import ago, duration
from seqmatch.errors import ConfigError
from seqmatch.jobs.lens_types import (
    MAX_ANSWERS,
    MAX_SAMPLES,
    MAX_TEXT,
    MIN_ANSWERS,
    LensPiece,
    LensRequest,
    Work,
)
from seqmatch.jobs.policy_folders import has_policy
from storage.errors import NotFoundError
from storage.records import TaskRecord, TaskStatus

KIND = "lens"
LOOK_BACK = 200
"""Among so many of the newest looks at any run those at this one are looked for."""
EMPTY: Mapping[str, str] = {
    "measure": "Not measured yet.",
    "score": "Nothing to show yet: give a prompt, and an answer or none.",
}
Seen = Mapping[str, Any]
"""What a browser has been sent: the task, its last piece, the status line, theme or view."""
_NUM_MEASURED = 5
_NUM_SCORED = 4


def open_tab(context: AppContext, run_id: str) -> list[Any]:
    """Returns the newest looks at this run, and whether it can be looked at."""
    found = [_newest(context, run_id, work) for work in ("measure", "score")]
    return [*("" if task is None else task.id for task in found), *can_start(context, run_id)]


def can_start(context: AppContext, run_id: str) -> list[Any]:
    """Returns a hint and the two buttons, which wait for the run's first policy."""
    try:
        is_ready = has_policy(context.store.run_dir(run_id))
    except NotFoundError:
        is_ready = False  # the address names no run, as the page itself says
    words = (
        ""
        if is_ready
        else "This run has saved no policy yet, so there is nothing to look at; it saves one with "
        "its first checkpoint."
    )
    return [plain(words, "waiting"), *[gr.update(interactive=is_ready)] * 2]


def submit_measure(
    context: AppContext, run_id: str, seen: Seen, num_answers: float | None
) -> list[Any]:
    """Queues a measurement, or finds the one of this run that is under way.

    Returns:
        The status line, the task, the timer that asks for results, and what the browser has been
        sent, from which the status line that is overwritten here is taken out.
    """
    try:
        number = _whole("Answers", num_answers, MIN_ANSWERS, MAX_ANSWERS)
    except ConfigError as error:
        return _refused(str(error), seen)
    newest = _newest(context, run_id, "measure")
    if newest is not None and not has_ended(newest):
        return _asked(newest.id, seen)
    return _submit(context, LensRequest(run_id=run_id, work="measure", num_answers=number), seen)


def submit_score(
    context: AppContext,
    run_id: str,
    last_task: str,
    seen: Seen,
    prompt: str | None,
    answer: str | None,
    num_samples: float | None,
) -> list[Any]:
    """Queues a look at an answer; one that this page still waits for is given up.

    Returns:
        What `submit_measure` does.
    """
    try:
        if not (prompt or "").strip():
            raise ConfigError("Prompt: it is empty; give the text that is answered")
        for name, text in (("Prompt", prompt), ("Answer", answer)):
            if len(text or "") > MAX_TEXT:
                raise ConfigError(
                    f"{name}: {len(text or ''):,} characters; allowed: up to {MAX_TEXT:,}"
                )
        number = _whole("Samples", num_samples, 1, MAX_SAMPLES)
    except ConfigError as error:
        return _refused(str(error), seen)
    stop(context, last_task)
    request = LensRequest(
        run_id=run_id,
        work="score",
        prompt=prompt or "",
        answers=[answer] if answer else [],
        num_samples=number,
        # Another answer each time: who asks again wants to see one.
        seed=secrets.randbelow(2**31),
    )
    return _submit(context, request, seen)


def stop(context: AppContext, task_id: str) -> gr.Timer:
    """Asks the worker to stop; the timer shows how it ends."""
    task = _task(context, task_id)
    if task is not None:
        context.store.tasks.cancel(task.id)
    return gr.Timer(active=task is not None)


def show_measure(context: AppContext, task_id: str, seen: Seen, theme: Theme) -> list[Any]:
    """Shows what is new of a measurement; the last result stays until there is another."""
    theme = "dark" if theme == "dark" else "light"
    task = _task(context, task_id)
    if task is None:
        return _nothing("measure", _NUM_MEASURED)
    found, seq = _found(context, task)
    now = {"task": task.id, "seq": seq, "look": theme}
    done = "" if found.measured is None else lens.measured_words(found.measured)
    head, status = _head(context, task, found, done, seen)
    measured = found.measured
    if measured is None or _is_same(now, seen):
        return [{**seen, "status": status}, *head, *([gr.skip()] * _NUM_MEASURED)]
    return [
        {**now, "status": status},
        *head,
        gr.update(visible=True),
        lens.measured_html(measured),
        lens.calibration_figure(measured, theme),
        lens.calibration_words(measured),
        lens.calibration_html(measured),
    ]


def show_score(context: AppContext, task_id: str, seen: Seen, view: heat_map.View) -> list[Any]:
    """Shows what is new of a look at answers, coloured by what was chosen."""
    task = _task(context, task_id)
    if task is None:
        return _nothing("score", _NUM_SCORED)
    found, seq = _found(context, task)
    now = {"task": task.id, "seq": seq, "look": view}
    num = len(found.scored)
    head, status = _head(
        context, task, found, f"{num} answer{'' if num == 1 else 's'}" if num else "", seen
    )
    if not found.scored or found.judge is None or _is_same(now, seen):
        return [{**seen, "status": status}, *head, *([gr.skip()] * _NUM_SCORED)]
    prompt = LensRequest.model_validate_json(task.payload_json).prompt
    return [
        {**now, "status": status},
        *head,
        gr.update(visible=True),
        heat_map.heat_html(prompt, found.judge, found.scored, view),
        gr.update(visible=True),
        heat_map.scores_table(found.scored),
    ]


def _submit(context: AppContext, request: LensRequest, seen: Seen) -> list[Any]:
    task = context.store.tasks.submit(KIND, request.model_dump_json())
    context.ensure_runner()
    return _asked(task.id, seen)


def _asked(task_id: str, seen: Seen) -> list[Any]:
    said = plain("Waiting for the worker …", "waiting")
    return [said, task_id, gr.Timer(active=True), _unsaid(seen)]


def _refused(words: str, seen: Seen) -> list[Any]:
    return [plain(f"⚠ {words}", "problem"), gr.skip(), gr.skip(), _unsaid(seen)]


def _unsaid(seen: Seen) -> Seen:
    return {key: value for key, value in seen.items() if key != "status"}


def _whole(name: str, value: float | None, least: int, most: int) -> int:
    if value is None or value != int(value) or not least <= value <= most:
        shown = "nothing" if value is None else f"{value:g}"
        raise ConfigError(f"{name}: {shown}; allowed: a whole number from {least} to {most:,}")
    return int(value)


def _nothing(name: str, num_results: int) -> list[Any]:
    hidden = [gr.update(visible=False), gr.Timer(active=False)]
    return [{}, plain(EMPTY[name], "empty"), *hidden, *([gr.skip()] * num_results)]


def _found(context: AppContext, task: TaskRecord) -> tuple[lens.Found, int]:
    outputs = context.store.tasks.output(task.id)
    found = lens.gather(pieces_of(context.store, task.id, LensPiece))
    return found, outputs[-1].seq if outputs else 0


def _is_same(now: Seen, seen: Seen) -> bool:
    return all(seen.get(key) == value for key, value in now.items())


def _head(
    context: AppContext, task: TaskRecord, found: lens.Found, done: str, seen: Seen
) -> tuple[list[Any], str]:
    """The updates of status line, stop button and timer; and the status line."""
    is_over = has_ended(task)
    status = _status(context, task, found, done)
    shown = gr.skip() if seen.get("status") == status else status
    return [shown, gr.update(visible=not is_over), gr.Timer(active=not is_over)], status


def _status(context: AppContext, task: TaskRecord, found: lens.Found, done: str) -> str:
    now = time.time()
    if not has_ended(task):
        doing = "Stopping" if task.is_cancel_requested else found.doing
        return plain(waiting(context.store, task, doing), "waiting")
    seconds = (task.ended_at or now) - (task.started_at or task.created_at)
    took = "under 1 s" if seconds < 1 else duration(seconds)
    tone: Tone = "good" if task.status is TaskStatus.COMPLETED else "problem"
    if task.status is TaskStatus.COMPLETED:
        return plain(f"{done}, in {took}, {ago(task.ended_at or now, now)}.", tone)
    why = failure(task)
    return plain(f"⚠ {why[:1].upper()}{why[1:]}", tone)


def _task(context: AppContext, task_id: str) -> TaskRecord | None:
    try:
        task = context.store.tasks.get(task_id) if task_id else None
    except NotFoundError:
        return None
    return task if task and task.kind == KIND else None


def _newest(context: AppContext, run_id: str, work: Work) -> TaskRecord | None:
    """The newest look of this kind that is under way or has a result, else one that failed."""
    found = [
        task
        for task in context.store.tasks.list(KIND, limit=LOOK_BACK)
        if _is_of(task, run_id, work)
    ]
    lost = (TaskStatus.FAILED, TaskStatus.CANCELLED)
    good = [task for task in found if task.status not in lost]
    return next(iter(good or found), None)


def _is_of(task: TaskRecord, run_id: str, work: Work) -> bool:
    try:
        request = LensRequest.model_validate_json(task.payload_json)
    except ValidationError:
        return False
    return (request.run_id, request.work) == (run_id, work)
