"""Following queued runs on a terminal: a progress bar for each, and Ctrl-C as "stop and save"."""

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from storage import RunStore
from storage.records import ControlRequest, RunRecord, RunStatus

_POLL_SECONDS = 0.5


def follow(store: RunStore, run_ids: Sequence[str]) -> list[RunRecord]:
    """Shows the runs until all have ended, and returns how.

    The first Ctrl-C asks all of them to stop and save; the next one stops following, and the runs
    go on stopping by themselves.
    """
    is_asked = False
    bars: dict[str, tqdm] = {}
    try:
        while True:
            try:
                runs = [store.runs.get(run_id) for run_id in run_ids]
                for run in runs:
                    _show(bars, run)
                if all(run.status.is_final for run in runs):
                    return runs
                time.sleep(_POLL_SECONDS)
            except KeyboardInterrupt:
                if is_asked:
                    raise
                is_asked = True
                _ask_to_stop(store, run_ids)
    finally:
        for bar in bars.values():
            bar.close()


def outcome(run: RunRecord) -> str:
    """Returns one line on how a run ended."""
    name = f"{run.id} ({run.name})"
    if run.status is RunStatus.COMPLETED:
        return f"{name}: completed, {run.step} steps"
    if run.status is RunStatus.CANCELLED:
        return f"{name}: stopped at step {run.step}; `runs resume {run.id}` goes on"
    kind = f"{run.error_kind}: " if run.error_kind else ""
    return f"{name}: failed at step {run.step}: {kind}{run.error_message}"


def _ask_to_stop(store: RunStore, run_ids: Sequence[str]) -> None:
    print("\nasking to stop and save; Ctrl-C again leaves them to it", file=sys.stderr)
    for run_id in run_ids:
        if not store.runs.get(run_id).status.is_final:
            store.runs.request(run_id, ControlRequest.STOP_AND_SAVE)


def _show(bars: dict[str, tqdm], run: RunRecord) -> None:
    if run.status is RunStatus.QUEUED and run.id not in bars:
        return
    if run.id not in bars:
        bars[run.id] = tqdm(
            total=run.num_steps, initial=run.step, desc=run.name[:40], unit="step", smoothing=0.05
        )
    bar = bars[run.id]
    phase = run.phase if run.status is RunStatus.RUNNING else run.status.value
    bar.set_postfix_str(phase, refresh=False)
    if run.step < bar.n:
        bar.reset(total=run.num_steps)  # a crash took it back to its checkpoint
    bar.update(run.step - bar.n)
    bar.refresh()
