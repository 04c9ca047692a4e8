"""The application as one Gradio object, and the settings of its server."""

from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from pages import downloads, theme
from pages.auth import SignIn
from pages.feedback import show_all_errors
from pages.guard import Guard, Rules
from pages.page import AppContext, Page

HIDDEN_PAGES = frozenset({"/run"})
"""Pages that need something in their address: reached by links, not from the navigation."""
REQUEST_FACTOR = 2
"""A request may hold this many files of the largest size."""


def build_app(context: AppContext, pages: tuple[Page, ...]) -> gr.Blocks:
    """Builds all pages into one application; the first one is at the root."""
    first, *others = pages
    app = gr.Blocks(title="SeqMatch", analytics_enabled=False, delete_cache=(3600, 86_400))
    with app:
        gr.Navbar(main_page_name=first.title)
        first.build(context)
    for page in others:
        with app.route(page.title, page.path, show_in_navbar=page.path not in HIDDEN_PAGES):
            gr.Navbar(main_page_name=first.title)
            page.build(context)
    show_all_errors(app)
    for wired in app.fns.values():
        # Events of JavaScript alone are public unless told otherwise: pages have no public names.
        wired.api_visibility = "private"
    return app.queue(max_size=100, default_concurrency_limit=16, api_open=False)


def server_settings(context: AppContext, users: dict[str, str]) -> tuple[dict[str, Any], Rules]:
    """Returns the arguments of `launch` that do not depend on where it listens, and the rules."""
    rules = Rules(bool(users), context.max_upload_mb * REQUEST_FACTOR * 1_000_000)
    folder = Path(__file__).parent
    settings: dict[str, Any] = {
        "theme": theme.theme(),
        "css_paths": [folder / f"{name}.css" for name in ("style", "forms", "oracle", "lens")],
        "auth": SignIn(users).check if users else None,
        "app_kwargs": {
            "middleware": [Middleware(Guard, rules=rules)],
            "routes": downloads.routes(context.store, context.curves),
            "docs_url": None,
            "redoc_url": None,
        },
        "max_file_size": f"{context.max_upload_mb}mb",
        "blocked_paths": [str(context.data_dir)],
        "allowed_paths": [],
        "footer_links": ["settings"],
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "strict_cors": True,
        "show_error": False,
        "quiet": True,
    }
    return settings, rules
