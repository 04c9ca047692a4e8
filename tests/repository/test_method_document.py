"""docs/method.md says what the registries hold."""

from pathlib import Path

import pytest

from seqmatch.divergences import DIVERGENCES
from seqmatch.objectives import OBJECTIVES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_every_divergence_has_its_row(name: str) -> None:
    (row,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` ")]

    *_, threshold, curvature = (cell.strip() for cell in row.strip("|").split("|"))
    entry = DIVERGENCES[name]
    expected = f"{entry.linear_below:g}".replace("-inf", "—").replace("-", "−")
    assert threshold == expected
    curvatures = {"1/2": 0.5, "1": 1.0, "2": 2.0, "none": None}
    assert curvatures[curvature] == entry.second_derivative


@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_every_objective_has_its_section(kind: str) -> None:
    assert f"### `{kind}`" in DOCUMENT
