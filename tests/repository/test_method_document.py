"""docs/method.md says what the registries hold."""

import math
from pathlib import Path

import pytest

from seqmatch.divergences import DIVERGENCES
from seqmatch.objectives import OBJECTIVES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")


def rows(name: str) -> list[list[str]]:
    """The cells of the two rows of a divergence: its formulas, and its prices and users."""
    lines = [line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_every_divergence_has_its_row_of_formulas(name: str) -> None:
    (formulas, _) = rows(name)

    *_, threshold, curvature = formulas
    entry = DIVERGENCES[name]
    expected = f"{entry.linear_below:g}".replace("-inf", "—").replace("-", "−")
    assert threshold == expected
    curvatures = {"1/2": 0.5, "1": 1.0, "2": 2.0, "none": None}
    assert curvatures[curvature] == entry.second_derivative


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_every_divergence_has_its_row_of_prices_and_users(name: str) -> None:
    (_, prices) = rows(name)

    *_, at_zero, at_infinity, symmetric, users = prices
    entry = DIVERGENCES[name]
    # 1/a and 1/(1-a) are those of the default order.
    values = {"1": 1.0, "∞": math.inf, "1/2": 0.5, "log 2": math.log(2), "1/a": 2, "1/(1−a)": 2}
    assert (values[at_zero], values[at_infinity]) == (entry.at_zero, entry.at_infinity)
    assert symmetric == ("yes" if entry.is_symmetric else "no")
    assert users == ("all" if not entry.left_out else ", ".join(sorted(entry.families)))


@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_every_objective_has_its_section(kind: str) -> None:
    assert f"### `{kind}`" in DOCUMENT
