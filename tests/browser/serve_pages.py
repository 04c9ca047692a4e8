"""Serves the pages of a store that is filled with runs, without a runner: nothing moves by itself.

`python -m tests.browser.serve_pages DATA_DIR PORT`
"""

import sys
import threading
from pathlib import Path

from pages import load_pages
from pages.application import build_app, server_settings
from pages.page import AppContext
from storage import RunStore
from tests.browser.filled_store import fill


def main() -> None:
    """Fills an empty store and serves it until the process ends."""
    store = RunStore.open(Path(sys.argv[1]))
    if not store.runs.list(include_deleted=True):
        fill(store)
    context = AppContext(store, store.data_dir, lambda: None, lambda _: False)
    settings, _ = server_settings(context, {})
    app = build_app(context, load_pages())
    app.launch(
        server_name="127.0.0.1", server_port=int(sys.argv[2]), prevent_thread_lock=True, **settings
    )
    threading.Event().wait()


if __name__ == "__main__":
    main()
