"""`runs`: list them; stop, resume, delete or restore one; say how many train at once."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

from seqmatch.jobs.commands.follow import follow, outcome
from seqmatch.jobs.commands.store_access import CommandError, add_data_dir, find_run, opened_store
from seqmatch.jobs.runs_at_once import MAX_AT_ONCE, runs_at_once, set_runs_at_once
from seqmatch.jobs.supervisor import ensure_runner
from storage import RunStore
from storage.records import ControlRequest, RunRecord, RunStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the runs, the newest first")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = actions.add_parser("show", help="print a run's record, config and events as JSON")
    stop = actions.add_parser("stop", help="stop a run; without --now it saves a checkpoint first")
    stop.add_argument("--now", action="store_true", help="do not save")
    resume = actions.add_parser("resume", help="queue a stopped, failed or finished run again")
    resume.add_argument("--num-steps", type=int, metavar="STEPS", help="train up to this step")
    resume.add_argument("--detach", action="store_true", help="do not follow it")
    follow_it = actions.add_parser("follow", help="follow a run until it ends")
    delete = actions.add_parser("delete", help="put a run aside; `restore` brings it back")
    delete.add_argument("--purge", action="store_true", help="delete its files too, for good")
    restore = actions.add_parser("restore", help="bring a deleted run back")
    at_once = actions.add_parser(
        "at-once", help="show or set how many runs a device trains at once"
    )
    on_one = (show, stop, resume, follow_it, delete, restore)
    add_data_dir(parser, (listing, at_once, *on_one))
    at_once.add_argument(
        "count", type=int, nargs="?", metavar="N", help=f"1 to {MAX_AT_ONCE}; 1 at first"
    )
    for each in on_one:
        each.add_argument("run", metavar="RUN", help="its id, the start of it, or its name")


def run(arguments: argparse.Namespace) -> int:
    """Does what was asked."""
    with opened_store(arguments) as store:
        if arguments.action == "list":
            return _list(store, arguments)
        if arguments.action == "at-once":
            return _at_once(store, arguments.count)
        if arguments.action == "restore":
            return _restore(store, arguments)
        return _ON_ONE_RUN[arguments.action](store, find_run(store, arguments.run), arguments)


def _at_once(store: RunStore, count: int | None) -> int:
    if count is not None:
        set_runs_at_once(store, count)
    print(f"runs that a device trains at once: {runs_at_once(store)}")
    return 0


def _list(store: RunStore, arguments: argparse.Namespace) -> int:
    runs = store.runs.list()
    if arguments.json:
        for each in runs:
            print(json.dumps(asdict(each)))
        return 0
    if not runs:
        print("no runs yet; `python -m seqmatch train --data arithmetic` starts one")
        return 0
    print(f"{'id':16}  {'status':9}  {'step':>13}  {'started':16}  name")
    for each in runs:
        steps = f"{each.step}/{each.num_steps}"
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.started_at or 0.0))
        started = started if each.started_at else "-"
        print(f"{each.id:16}  {each.status.value:9}  {steps:>13}  {started:16}  {each.name}")
    return 0


def _show(store: RunStore, found: RunRecord, _: argparse.Namespace) -> int:
    record = asdict(found) | {"config": json.loads(found.config_json)}
    del record["config_json"]
    record["events"] = [asdict(event) for event in store.notes.events(found.id)]
    print(json.dumps(record, indent=1))
    return 0


def _stop(store: RunStore, found: RunRecord, arguments: argparse.Namespace) -> int:
    if found.status.is_final:
        raise CommandError(f"run {found.id} has ended ({found.status.value}); it cannot be stopped")
    control = ControlRequest.STOP if arguments.now else ControlRequest.STOP_AND_SAVE
    print(f"{found.id}: {store.runs.request(found.id, control).status.value}, asked to stop")
    return 0


def _resume(store: RunStore, found: RunRecord, arguments: argparse.Namespace) -> int:
    store.runs.requeue(found.id, arguments.num_steps)
    ensure_runner(arguments.data_dir)
    if arguments.detach:
        print(found.id)
        return 0
    return _follow(store, found, arguments)


def _follow(store: RunStore, found: RunRecord, _: argparse.Namespace) -> int:
    ended = follow(store, [found.id])[0]
    print(outcome(ended), file=sys.stderr)
    return 0 if ended.status is RunStatus.COMPLETED else 1


def _delete(store: RunStore, found: RunRecord, arguments: argparse.Namespace) -> int:
    store.runs.delete(found.id)
    if arguments.purge:
        store.runs.purge(found.id)
    how = "for good" if arguments.purge else f"; `runs restore {found.id}` brings it back"
    print(f"{found.id}: deleted {how}")
    return 0


def _restore(store: RunStore, arguments: argparse.Namespace) -> int:
    print(f"{store.runs.restore(arguments.run).id}: restored")
    return 0


_ON_ONE_RUN: dict[str, Callable[[RunStore, RunRecord, argparse.Namespace], int]] = {
    "show": _show,
    "stop": _stop,
    "resume": _resume,
    "follow": _follow,
    "delete": _delete,
}
