"""SeqMatch's entry: read the options, open the store, start the runner, build the pages, serve."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pages import load_pages
from pages.application import build_app, server_settings
from pages.auth import read_users
from pages.page import AppContext
from pages.prepared_models import is_prepared
from pages.sharing import WARNING, check_port, check_reach, share
from seqmatch.errors import ConfigError
from seqmatch.jobs.allowed_models import allowed_models, set_allowed_models
from seqmatch.jobs.supervisor import ensure_runner, hold_web_lock
from storage import RunStore
from storage.errors import StorageError


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python app.py", description="SeqMatch on this machine.")
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    add("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    add("--data-dir", type=Path, default=Path("seqmatch-data"), help="folder of runs and data")
    add("--share", action="store_true", help="open a public link for a week; needs --auth")
    add("--auth", type=Path, metavar="FILE", help="users who may sign in (python -m pages.auth)")
    add("--allow-model", action="append", default=[], metavar="MODEL", help="folder or hub id")
    add("--max-upload-mb", type=int, default=50, help="largest file to upload (default: 50)")
    return parser.parse_args(arguments)


def serve(given: argparse.Namespace, store: RunStore, users: dict[str, str]) -> None:
    """Serves the pages until the process is asked to end; running jobs are not touched."""
    context = AppContext(
        store=store,
        data_dir=store.data_dir,
        ensure_runner=partial(ensure_runner, store.data_dir),
        is_model_prepared=partial(is_prepared, store.data_dir / "models"),
        allowed_models=allowed_models(store),
        max_upload_mb=given.max_upload_mb,
    )
    app = build_app(context, load_pages())
    settings, rules = server_settings(context, users)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    where = {"server_name": given.host, "server_port": given.port}
    _, url, _ = app.launch(**where, **settings, prevent_thread_lock=True, inbrowser=False)
    print(f"SeqMatch is at {url}  (data: {store.data_dir})", flush=True)
    if given.share:
        problem = share(app, partial(tell_link, rules.origins))
        if problem:
            print(f"No public link: {problem}. The local application goes on.", flush=True)
    ended.wait()
    app.close(verbose=False)
    active = len(store.runs.active())
    print(f"Closed. Running jobs that go on: {active}.")


def tell_link(origins: set[str], link: str) -> None:
    """Lets the public link in, and prints it with what it means."""
    origins.add(link)
    print(f"Public link: {link}\n{WARNING}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts the application; returns 2 where it may not start as asked."""
    given = options(arguments)
    cache = tempfile.mkdtemp(prefix="seqmatch-")
    os.environ["GRADIO_TEMP_DIR"] = cache
    try:
        check_reach(given.host, given.share, given.auth)
        check_port(given.host, given.port)
        users = read_users(given.auth) if given.auth else {}
        store = RunStore.open(given.data_dir)
        set_allowed_models(store, given.allow_model)
        lock = hold_web_lock(store.data_dir)
        ensure_runner(store.data_dir)
        serve(given, store, users)
        store.close()
        lock.close()
    except (ConfigError, StorageError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
