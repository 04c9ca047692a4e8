"""The metrics that a run reported since it was started, for an export without a store."""

import csv
import io
from collections.abc import Mapping


class MetricTable:
    """All reported numbers, by name and step."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int], float] = {}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the numbers of a step; the same name and step again replaces the number."""
        self._values.update({(name, step): value for name, value in values.items()})

    def csv(self) -> str:
        """Returns lines of name, step and value under a header."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("name", "step", "value"))
        writer.writerows(
            (name, step, value) for (name, step), value in sorted(self._values.items())
        )
        return text.getvalue()
