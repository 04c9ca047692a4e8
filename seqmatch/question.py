"""Asking the owner of a run, during long work, whether to go on."""

import time
from collections.abc import Callable

from seqmatch.distributed import ALONE, World
from seqmatch.reporting import Control

_SECONDS = 0.5


class Question:
    """Asks the owner whether to go on during long work, at most twice a second.

    Where several processes work, the main one asks, and the others hear of it once it is to stop.
    """

    def __init__(self, ask: Callable[[], Control], world: World = ALONE, about: str = "") -> None:
        """Asks with `ask`; `about` names the work among all that these processes ever do."""
        self._ask = ask
        self._world = world
        self._word = f"stop {about}"
        self._asked_at = time.monotonic()
        self.answer = Control.GO_ON

    def is_asked_to_stop(self) -> bool:
        """Tells whether the owner wants the work to end; once it does, it stays so."""
        now = time.monotonic()
        if self.answer is Control.GO_ON and now - self._asked_at > _SECONDS:
            self._asked_at = now
            self._look()
        return self.answer is not Control.GO_ON

    def _look(self) -> None:
        if self._world.is_main:
            self.answer = self._ask()
            if self.answer is not Control.GO_ON:
                self._world.call(self._word)
        elif self._world.has_heard(self._word):
            self.answer = Control.STOP
