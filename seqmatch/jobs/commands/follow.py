"""Following queued runs: bars on a terminal, a line now and then elsewhere; Ctrl-C as "stop"."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tqdm import tqdm

from seqmatch.jobs.supervisor import ensure_runner
from storage import RunStore
from storage.records import ControlRequest, RunRecord, RunStatus

_POLL_SECONDS = 0.5
_LINE_SECONDS = 15.0
_LINE_SHARE = 0.05
_RUNNER_SECONDS = 10.0


class Display(Protocol):
    """Where progress is shown."""

    def show(self, run: RunRecord) -> None:
        """Shows where a run stands now."""

    def close(self) -> None:
        """Shows nothing more."""


def follow(store: RunStore, run_ids: Sequence[str]) -> list[RunRecord]:
    """Shows the runs until all have ended, and returns how.

    The first Ctrl-C asks all of them to stop and save; the next one stops following, and the runs
    go on stopping by themselves. A runner that died is started again.
    """
    is_asked = False
    looked_at = time.monotonic()
    display: Display = Bars() if sys.stderr.isatty() else Lines(_print)
    try:
        while True:
            try:
                runs = [store.runs.get(run_id) for run_id in run_ids]
                for run in runs:
                    display.show(run)
                if all(run.status.is_final for run in runs):
                    return runs
                if time.monotonic() - looked_at >= _RUNNER_SECONDS:
                    ensure_runner(store.data_dir)
                    looked_at = time.monotonic()
                time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:
                if is_asked:
                    raise
                is_asked = True
                _ask_to_stop(store, run_ids)
    finally:
        display.close()


def outcome(run: RunRecord) -> str:
    """Returns one line on how a run ended."""
    name = f"{run.id} ({run.name})"
    if run.status is RunStatus.COMPLETED:
        return f"{name}: completed, {run.step} steps"
    if run.status is RunStatus.CANCELLED:
        return f"{name}: stopped at step {run.step}; `runs resume {run.id}` goes on"
    kind = f"{run.error_kind}: " if run.error_kind else ""
    return f"{name}: failed at step {run.step}: {kind}{run.error_message}"


class Bars:
    """A bar with ETA for each run that has started."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}

    def show(self, run: RunRecord) -> None:
        """Redraws the bar of a run."""
        if run.id not in self._bars:
            if run.status is RunStatus.QUEUED:
                return
            title = run.name[:40]
            self._bars[run.id] = tqdm(
                total=run.num_steps, initial=run.step, desc=title, unit="step", smoothing=0.05
            )
        bar = self._bars[run.id]
        phase = run.phase if run.status is RunStatus.RUNNING else run.status.value
        bar.set_postfix_str(phase, refresh=False)
        if run.step < bar.n:
            bar.reset(total=run.num_steps)  # a crash took it back to its checkpoint
        bar.update(run.step - bar.n)
        bar.refresh()

    def close(self) -> None:
        """Ends the bars."""
        for bar in self._bars.values():
            bar.close()


class Lines:
    """A line for a change of status, every 5 % of the steps, and every 15 seconds of progress."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._told: dict[str, tuple[float, RunRecord]] = {}

    def show(self, run: RunRecord) -> None:
        """Writes a line, where one is due."""
        now = self._clock()
        if run.id in self._told and not self._is_due(run, now):
            return
        self._told[run.id] = now, run
        parts = [f"{run.name}: {run.status.value}, step {run.step} of {run.num_steps}"]
        if run.status is RunStatus.RUNNING:
            parts += [run.phase] if run.phase else []
            if run.steps_per_second:
                left = (run.num_steps - run.step) / run.steps_per_second
                parts.append(f"{run.steps_per_second:.1f} steps/s, {left / 60:.1f} min left")
        self._write(", ".join(parts))

    def _is_due(self, run: RunRecord, now: float) -> bool:
        told_at, told = self._told[run.id]
        if run.status is not told.status:
            return True
        is_later = now - told_at >= _LINE_SECONDS and (run.step, run.phase) != (
            told.step,
            told.phase,
        )
        return is_later or run.step - told.step >= max(1.0, run.num_steps * _LINE_SHARE)

    def close(self) -> None:
        """Nothing is left open."""


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ask_to_stop(store: RunStore, run_ids: Sequence[str]) -> None:
    print("\nasking to stop and save; Ctrl-C again leaves them to it", file=sys.stderr)
    for run_id in run_ids:
        if not store.runs.get(run_id).status.is_final:
            store.runs.request(run_id, ControlRequest.STOP_AND_SAVE)
