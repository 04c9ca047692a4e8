"""The parser of the commands: a mistake is one line, with the flag that was probably meant."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn


class CommandParser(argparse.ArgumentParser):
    """Reads one command; a flag may be written with hyphens or underscores."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses, after it has looked for flags that there are not."""
        given = [self._as_known(word) for word in (sys.argv[1:] if args is None else args)]
        known = self._flags()
        for word in given[: given.index("--")] if "--" in given else given:
            flag = word.partition("=")[0]
            if flag.startswith("--") and " " not in flag and flag not in known:
                near = difflib.get_close_matches(flag, known, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                self.error(f"there is no flag {flag}{meant}")
        parsed: tuple[argparse.Namespace, list[str]] = super().parse_known_args(given, namespace)
        return parsed

    def error(self, message: str) -> NoReturn:
        """Ends with the message in one line, without a page of usage."""
        self.exit(2, f"{self.prog}: {message} (--help lists everything)\n")

    def _as_known(self, word: str) -> str:
        flag, is_set, value = word.partition("=")
        known = self._option_string_actions
        if not flag.startswith("--") or flag in known:
            return word
        for option in known:
            if option.replace("_", "-") == flag.replace("_", "-"):
                return f"{option}{is_set}{value}"
        return word

    def _flags(self) -> list[str]:
        """The flags of this parser and of the actions below it."""
        flags = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                flags += [flag for each in action.choices.values() for flag in each._flags()]
        return [*flags, *(flag.replace("_", "-") for flag in flags if "_" in flag)]
