"""The pages: Gradio only here and in `app.py`; no model is ever loaded here.

`PAGES` names the modules in the order of the navigation; each has a `PAGE`. They are imported when
the application is built, so that presenters can be used and tested without Gradio.
"""

import os
from importlib import import_module

from pages.page import Page

# Gradio reads these when it is imported, and every import of it comes after this module.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_MCP_SERVER"] = "False"
os.environ["GRADIO_SHARE"] = "False"
os.environ.pop("GRADIO_VIBE_MODE", None)

PAGES: tuple[str, ...] = (
    "pages.start",
    "pages.demonstrations",
    "pages.train",
    "pages.runs",
    "pages.run",
    "pages.compare",
    "pages.oracle",
)


def load_pages() -> tuple[Page, ...]:
    """Imports the pages and returns them in the order of the navigation."""
    return tuple(import_module(name).PAGE for name in PAGES)
