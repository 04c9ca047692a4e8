"""The README names what there is: every objective, divergence and page."""

from pathlib import Path

import pytest

from seqmatch.divergences import DIVERGENCES
from seqmatch.objectives import SequenceMatchConfig
from seqmatch.objectives.catalogue import OBJECTIVES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*OBJECTIVES, *DIVERGENCES])
def test_the_tables_name_every_registered_objective_and_divergence(name: str) -> None:
    assert f"| `{name}`" in README


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_the_table_of_divergences_says_what_the_registry_says(name: str) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}`")]

    *_, phi, behaviour, symmetric = (cell.strip() for cell in row.strip("|").split("|"))
    entry = DIVERGENCES[name]
    assert behaviour.startswith(entry.behaviour)
    assert symmetric.endswith("yes" if entry.is_symmetric else "no")
    assert ("not for SequenceMatch" in phi) == ("sequence_match" in entry.left_out)
    assert ("(default)" in row) == (name == SequenceMatchConfig().divergence)


@pytest.mark.parametrize("page", ["Demonstrations", "Train", "Runs", "Run", "Compare", "Oracle"])
def test_the_table_of_pages_is_complete(page: str) -> None:
    assert f"| {page} |" in README


def test_the_pictures_exist() -> None:
    pictures = [part.split(")")[0] for part in README.split("](")[1:]]
    local = [name for name in pictures if name.startswith("docs/")]
    missing = [name for name in local if not (ROOT / name).exists()]
    assert local
    assert not missing
