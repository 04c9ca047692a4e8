"""What training costs: sampling, padding, deleted tokens and reports.

`python -m benchmarks.training`: rows 5, 6, 15, 16 and 22 of the table, each against its baseline in
the same run; `--only 5 16` measures some of them (5 and 6 are one measurement). SmolLM2 is measured
where `make model` has prepared it. On a machine with a GPU all of it runs there.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Iterator, Mapping

import torch

from benchmarks import length_cut, logging_cost, sequence_match_loop, tree_pass
from benchmarks.paired import Figure, show

ROWS: Mapping[str, Callable[[str], Iterator[Figure]]] = {
    "5": sequence_match_loop.figures,
    "6": sequence_match_loop.figures,
    "15": length_cut.figures,
    "16": tree_pass.figures,
    "22": logging_cost.figures,
}
"""What measures each row, given the device."""


def figures(rows: Collection[str] = tuple(ROWS)) -> Iterator[Figure]:
    """Measures these rows."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for measured in dict.fromkeys(ROWS[row] for row in rows):
        for figure in measured(device):
            if figure.row in rows:
                yield figure


def main() -> int:
    """Prints the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=tuple(ROWS), metavar="ROW")
    given = parser.parse_args()
    torch.set_num_threads(1)
    show(figures(given.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
