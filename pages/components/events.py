"""How events are wired. No page is a public interface: none of its events has a name outside.

"Private" hides an event, it does not protect it: what guards the application is the sign-in.
"""

from typing import Any

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": 16,
}
"""An event of a person: no progress overlay, and several visitors at once."""

POLLING: dict[str, Any] = {**QUIET, "queue": False, "trigger_mode": "once"}
"""An event of a timer: outside the queue, and never a second before the first has answered."""

FOLLOWING: dict[str, Any] = {**QUIET, "queue": False, "trigger_mode": "always_last"}
"""An event that follows what a person types, slides or chooses: asked again only once the last
answer is there. The last value wins, those in between may be skipped, and no late answer puts an
earlier one back."""

BUSY: dict[str, Any] = {**QUIET, "show_progress": "minimal"}
"""An event that takes a moment, such as reading an upload."""


def held(elem_id: str) -> str:
    """Returns JavaScript of the event that fills a form on loading: nobody can edit it meanwhile.

    On a busy machine the answer takes its time, and would overwrite what a person has written.
    """
    return f"() => {{ document.getElementById('{elem_id}').inert = true; }}"


def released(elem_id: str) -> str:
    """Returns JavaScript of the event after it: the form can be edited."""
    return f"() => {{ document.getElementById('{elem_id}').inert = false; }}"


WITH_THEME = (
    "(...values) => { values[values.length - 1] = "
    "document.body.classList.contains('dark') ? 'dark' : 'light'; return values; }"
)
"""JavaScript of an event whose last input is the theme: only the browser knows it."""
