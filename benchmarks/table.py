"""Every figure of docs/performance.md in one command: `python -m benchmarks.table`.

Prints the table as it grows; `--write` puts it into docs/performance.md between its two marks, with
date, machine and commit. `--only head decoding` runs some of the modules. Where there is a GPU the
rows are those that it has goals for.
"""

import argparse
import datetime
import importlib
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from benchmarks.paired import HEADER, Figure, machine, show

ON_CPU: tuple[str, ...] = (
    "head",
    "step_memory",
    "step_cost",
    "decoding",
    "sampling",
    "training",
    "tokenising",
    "trl_sft",
)
"""Each has `figures() -> Iterator[Figure]`."""
ON_GPU: tuple[str, ...] = ("on_gpu", "training", "trl_sft")
MODULES = ON_GPU if torch.cuda.is_available() else ON_CPU
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BROKEN_OFF = "broken off: "
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def figures(modules: Iterable[str]) -> Iterator[Figure]:
    """Measures, one module after the other; one that breaks off is a row, and the next goes on."""
    for name in modules:
        try:
            yield from importlib.import_module(f"benchmarks.{name}").figures()
        except Exception as error:  # noqa: BLE001 - whatever it was: the rows before it stay
            traceback.print_exc()
            yield broken_off(name, error)


def broken_off(name: str, error: Exception) -> Figure:
    """Returns the row of a module whose remaining rows could not be measured."""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:200].replace("|", "/")
    return Figure("-", f"the rest of {name}", BROKEN_OFF + words, "-", False, "nothing")


def written(page: str, found: Iterable[Figure]) -> str:
    """Returns the page with a new table between its marks."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    rows = [HEADER, *(figure.line() for figure in found)]
    today = datetime.date.today().isoformat()
    words = f"Measured {today} at commit {_commit()}: {machine()}."
    return "\n".join([before + BEGIN, words, "", *rows, "", END + after])


def main() -> int:
    """Measures, prints, and writes where it is asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=MODULES, default=MODULES)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = show(figures(given.only))
    if given.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    return 1 if any(each.measured.startswith(BROKEN_OFF) for each in found) else 0


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PAGE.parent, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
