"""What tests do in the place of the lane, and of a busy machine."""

from playwright.sync_api import Page, Route

from storage import RunStore
from storage.records import TaskRecord


class Held:
    """Keeps back the first questions of a page to its server, as a busy machine does."""

    def __init__(self, page: Page, number: int) -> None:
        self.number = number
        self.routes: list[Route] = []
        page.route("**/gradio_api/**", self._take)

    def _take(self, route: Route) -> None:
        if route.request.method == "POST" and len(self.routes) < self.number:
            self.routes.append(route)
        else:
            route.continue_()

    def release(self) -> None:
        self.number = 0
        for route in self.routes:
            route.continue_()


def claimed(store: RunStore, kind: str) -> TaskRecord:
    """The lane's next task, once the page has asked."""
    task = store.tasks.claim("test")
    assert task is not None
    assert task.kind == kind
    return task
