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
