"""Tables as commands give them: Markdown on stdout, CSV in a file."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from seqmatch.errors import ConfigError

Row = tuple[str | float | int | None, ...]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table, its columns aligned, and an empty line."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for place, row in enumerate(cells):
        print("| " + " | ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) + " |")
        if place == 0:
            print("| " + " | ".join("-" * width for width in widths) + " |")
    print()


def check_can_be_written(path: Path) -> None:
    """Finds a file that cannot be written before the work, not after it.

    Raises:
        ConfigError: Why --csv may not name this path.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"--csv {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise ConfigError(f"--csv {path}: is a folder; name a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--csv {path}: may not be written")


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows, the header among them.

    Raises:
        ConfigError: The file of --csv cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    except OSError as error:
        raise ConfigError(f"--csv {path}: {error.strerror}") from error
