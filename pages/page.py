"""What a page is, and what it is given. Light: needs no Gradio."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pages.curve_cache import CurveCache
from storage import RunStore


@dataclass(frozen=True)
class AppContext:
    """What the pages know of the application: nothing of it is global."""

    store: RunStore
    data_dir: Path
    ensure_runner: Callable[[], None]
    """Sees to it that queued runs and tasks are worked on; cheap where that is so already."""
    is_model_prepared: Callable[[str], bool]
    """True where this packaged base model's weights are on this machine."""
    allowed_models: tuple[str, ...] = ()
    """Folders and hub ids that the operator allowed as base models."""
    max_upload_mb: int = 50
    """Limit of one uploaded file."""

    @cached_property
    def curves(self) -> CurveCache:
        """The curves that were read already; shared by all visitors."""
        return CurveCache(self.store)


@dataclass(frozen=True)
class Page:
    """One page: its name in the navigation, its address, and the function that builds it."""

    title: str
    path: str
    """"/" for the first page; "/train" for others."""
    build: Callable[[AppContext], None]
