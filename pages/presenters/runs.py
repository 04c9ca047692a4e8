"""Runs as sentences and tables. Pure: records in, escaped HTML and text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pages.links import link
from pages.presenters.palette import RunLook
from pages.presenters.wording import ago, ago_html, duration, number, size
from seqmatch.divergences import DIVERGENCES
from seqmatch.flags import EVENT_PREFIX, FLAGS
from seqmatch.objectives.catalogue import OBJECTIVES
from storage.records import ControlRequest, DatasetRecord, EventRecord, RunRecord, RunStatus

STATUS_WORDS: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "waiting",
    RunStatus.RUNNING: "running",
    RunStatus.COMPLETED: "done",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "stopped",
}
_QUIET_SECONDS = 60.0


def eta_seconds(run: RunRecord) -> float | None:
    """Returns the seconds to the end at the present pace; None where that is not known."""
    if run.status is not RunStatus.RUNNING or not run.steps_per_second:
        return None
    return (run.num_steps - run.step) / run.steps_per_second


def status_sentence(run: RunRecord, now: float, num_before: int = 0) -> str:
    """Says in words where a run stands.

    Args:
        run: The run.
        now: The time, in seconds since the epoch.
        num_before: Runs that are ahead of it in the queue or take its place now.
    """
    if run.status is RunStatus.QUEUED:
        behind = (
            f", behind {num_before} other{'s' if num_before != 1 else ''}" if num_before else ""
        )
        return f"Waiting for a free device{behind}.{_why_again(run)}"
    if run.status is RunStatus.RUNNING:
        return _running_sentence(run, now)
    ended = ago(run.ended_at, now) if run.ended_at else "some time ago"
    if run.status is RunStatus.COMPLETED:
        return f"Done: {run.step:,} steps, finished {ended}."
    if run.status is RunStatus.CANCELLED:
        return f"Stopped at step {run.step:,} of {run.num_steps:,}, {ended}. It can be resumed."
    kind = run.error_kind or "unknown reason"
    return (
        f"Failed at step {run.step:,} of {run.num_steps:,}, {ended}: {kind}. "
        "Resume goes on from its newest checkpoint."
    )


def _why_again(run: RunRecord) -> str:
    """Says of a waiting run that it has been at work before, and why it waits again."""
    if run.num_crashes:
        start = f"from the newest checkpoint up to step {run.step:,}" if run.step else "anew"
        return f" Its trainer ended unexpectedly; it starts again {start}."
    return f" It goes on from step {run.step:,}." if run.step else ""


def _running_sentence(run: RunRecord, now: float) -> str:
    if run.control is not ControlRequest.NONE:
        saving = " and saving" if run.control is ControlRequest.STOP_AND_SAVE else ""
        return (
            f"Stopping{saving} after the present step, at step {run.step:,} of {run.num_steps:,}."
        )
    doing = run.phase or "starting"
    again = ""
    if run.num_crashes:
        again = (
            f" Its trainer ended unexpectedly; this is attempt {run.attempt}, resumed by itself."
        )
    elif run.attempt > 1:
        again = f" Resumed: attempt {run.attempt}."
    if not run.step:
        return f"Running: {doing}.{again}"
    left = eta_seconds(run)
    ending = f", about {duration(left)} left" if left is not None else ""
    quiet = now - run.progress_at if run.progress_at else 0.0
    silence = f" No step for {duration(quiet)}." if quiet > _QUIET_SECONDS else ""
    return f"Running: {doing}, step {run.step:,} of {run.num_steps:,}{ending}.{silence}{again}"


def objective_words(run: RunRecord) -> str:
    """Returns the objective's and the divergence's names as people know them."""
    info = OBJECTIVES.get(run.objective)
    title = info.title if info else run.objective
    divergence = DIVERGENCES.get(run.divergence)
    known = divergence.title if divergence else run.divergence
    return f"{title}, {known}" if known else title


def progress_html(run: RunRecord, label: str) -> str:
    """Returns the progress bar of a run, with its share in words."""
    share = min(run.step / max(run.num_steps, 1), 1.0)
    return (
        f'<progress class="run-progress status-{run.status}" max="{run.num_steps}" '
        f'value="{run.step}" aria-label="{escape(label)}">{share:.0%}</progress>'
    )


def badge(run: RunRecord) -> str:
    """Returns the status as a word in a badge."""
    word = STATUS_WORDS[run.status]
    if run.status is RunStatus.RUNNING and run.control is not ControlRequest.NONE:
        word = "stopping"
    return f'<span class="badge status-{run.status}">{word}</span>'


@dataclass(frozen=True)
class _ShownFlag:
    """A flag of a run in words."""

    title: str
    sentence: str
    """What it means and what to try."""


def _raised_flags(events: Sequence[EventRecord]) -> list[_ShownFlag]:
    """Returns each flag among the events once; one that is not registered in its own words."""
    raised = {event.code: event for event in events if event.code.startswith(EVENT_PREFIX)}
    return [_flag_in_words(event) for event in raised.values()]


def _flag_in_words(event: EventRecord) -> _ShownFlag:
    code = event.code.removeprefix(EVENT_PREFIX)
    info = FLAGS.get(code)
    if info is None:
        return _ShownFlag(code.replace("_", " "), event.message)
    return _ShownFlag(info.title, f"{info.meaning} {info.advice}")


def _flag_badges(flags: Sequence[_ShownFlag]) -> str:
    return "".join(f' <span class="badge flag">{escape(flag.title)}</span>' for flag in flags)


def _flag_lines(flags: Sequence[_ShownFlag]) -> str:
    if not flags:
        return ""
    lines = "".join(
        f"<li><strong>{escape(flag.title.capitalize())}.</strong> {escape(flag.sentence)}</li>"
        for flag in flags
    )
    return f'<ul class="flags" aria-label="flags">{lines}</ul>'


def run_html(
    run: RunRecord,
    dataset: DatasetRecord | None,
    look: RunLook,
    now: float,
    num_before: int,
    events: Sequence[EventRecord] = (),
) -> str:
    """Returns the head of a run's page: what it is, where it stands, its flags and figures.

    Args:
        run: The run.
        dataset: Its demonstrations; None where they are gone.
        look: Its colour and marker.
        now: The time, in seconds since the epoch.
        num_before: Runs that are ahead of it in the queue or take its place now.
        events: What happened to it; raised flags are among them.
    """
    flags = _raised_flags(events)
    data = f"{dataset.name} ({dataset.num_rows:,} rows)" if dataset else "a set that is gone"
    about = f"{objective_words(run)} · {run.base_model} · {data} · seed {run.seed}"
    left = eta_seconds(run)
    pace = run.steps_per_second if run.status is RunStatus.RUNNING else None
    figures = [
        ("Step", f"{run.step:,} of {run.num_steps:,}"),
        ("Phase", (run.phase or "starting") if run.status is RunStatus.RUNNING else "–"),
        ("Time left", duration(left) if left is not None else "–"),
        ("Pace", f"{number(pace)} steps/s" if pace else "–"),
        ("Time taken", _time_taken(run, now)),
        ("Memory peak", size(run.peak_memory_bytes) if run.peak_memory_bytes else "–"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in figures
    )
    return (
        f'<div class="run-head"><h2>{look.html()} {escape(run.name)} {badge(run)}'
        f"{_flag_badges(flags)}</h2>"
        f'<p class="about">{escape(about)}</p>'
        f'<p class="status-line" role="status" aria-live="polite">'
        f"{escape(status_sentence(run, now, num_before))}</p>{_flag_lines(flags)}"
        f"{progress_html(run, f'progress of {run.name}')}"
        f'<dl class="figures">{cells}</dl>{_error_html(run)}</div>'
    )


def _time_taken(run: RunRecord, now: float) -> str:
    if run.started_at is None:
        return "–"
    return duration((run.ended_at or now) - run.started_at)


def _error_html(run: RunRecord) -> str:
    if run.status is not RunStatus.FAILED:
        return ""
    last = run.error_message.strip() or "No message was left; the log below has what is known."
    return f'<pre class="plain error" tabindex="0" aria-label="error message">{escape(last)}</pre>'


def runs_table(
    runs: Sequence[RunRecord],
    datasets: Mapping[str, DatasetRecord],
    looks: Mapping[str, RunLook],
    now: float,
) -> str:
    """Returns the table of runs: what, where it stands, how long still."""
    if not runs:
        return (
            '<p class="empty">No runs yet. <a href="./">Run the example</a> or '
            '<a href="train">start one on Train</a>.</p>'
        )
    rows = "".join(_run_row(run, datasets.get(run.dataset_id), looks[run.id], now) for run in runs)
    head = "".join(
        f'<th scope="col"{kind}>{name}</th>'
        for name, kind in (
            ("Run", ""),
            ("Status", ""),
            ("Objective", ""),
            ("Data", ""),
            ("Progress", ""),
            ("Left", ' class="number"'),
            ("Made", ' class="number"'),
        )
    )
    return (
        '<div class="table-scroll" tabindex="0" role="region" aria-label="runs">'
        '<table class="plain-table runs"><caption class="visually-hidden">Runs, the newest first'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _run_row(run: RunRecord, dataset: DatasetRecord | None, look: RunLook, now: float) -> str:
    left = eta_seconds(run)
    data = dataset.name if dataset else "gone"
    # data-label names the cell where a narrow screen shows the row as a card.
    return (
        f'<tr><th scope="row">{look.html()} <a href="{escape(link("run", run=run.id))}">'
        f"{escape(run.name)}</a></th>"
        f'<td data-label="Status">{badge(run)}</td>'
        f'<td data-label="Objective">{escape(objective_words(run))}</td>'
        f'<td data-label="Data">{escape(data)}</td>'
        f'<td data-label="Progress">{progress_html(run, f"progress of {run.name}")}'
        f'<span class="steps">{run.step:,} / {run.num_steps:,}</span></td>'
        f'<td data-label="Left" class="number">{duration(left) if left is not None else "–"}</td>'
        f'<td data-label="Made" class="number">{ago_html(run.created_at, now)}</td></tr>'
    )


def events_html(events: Sequence[EventRecord], now: float) -> str:
    """Returns what happened to a run, the newest first."""
    if not events:
        return '<p class="empty">Nothing out of the ordinary has happened.</p>'
    items = "".join(
        f'<li class="event event-{escape(event.level)}"><span class="event-level">'
        f"{escape(event.level)}</span> {ago_html(event.at, now)} {escape(event.message)} "
        f"<code>{escape(event.code)}</code></li>"
        for event in reversed(events)
    )
    return f'<ul class="events">{items}</ul>'
