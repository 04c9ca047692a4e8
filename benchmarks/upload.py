"""What reading an upload costs: seconds, and the peak of memory of the child process that reads it.

`python -m benchmarks.upload [--rows 100000] [--words 110]` writes one file of each format, reads it
as the page does, and prints a table.
"""

import argparse
import csv
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pyarrow
import pyarrow.parquet

from seqmatch.ingest import inspect_upload

WORDS = ("the", "of", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "they")
Rows = list[dict[str, str]]


def sentences(count: int, num_words: int, seed: int = 0) -> Rows:
    """Returns prompts of 15 words with answers of so many, no two alike."""
    numbers = random.Random(seed)
    return [
        {
            "prompt": f"{index} " + " ".join(numbers.choices(WORDS, k=15)),
            "completion": " ".join(numbers.choices(WORDS, k=num_words)),
        }
        for index in range(count)
    ]


def write_jsonl(path: Path, rows: Rows) -> None:
    """Writes one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_csv(path: Path, rows: Rows) -> None:
    """Writes comma-separated values with a header."""
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    """Writes one row group of two text columns, as pandas and datasets do."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_nested_parquet(path: Path, rows: Rows) -> None:
    """Writes one row group of lists of messages."""
    chats = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(chats), path)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "a.jsonl": write_jsonl,
    "a.csv": write_csv,
    "a.parquet": write_parquet,
    "messages.parquet": write_nested_parquet,
}


def measure(path: Path) -> tuple[int, float, float]:
    """Reads a file in a child process; returns usable rows, seconds and the peak in MB."""
    start = time.perf_counter()
    report = inspect_upload([path], work_dir=path.parent)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return report.num_usable, seconds, peak * 1024 / 1e6


def main() -> None:
    """Writes the files, reads each in a process of its own, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=110, help="of an answer")
    options = parser.parse_args()
    count = options.rows
    print(
        f"| file of {count:,} rows | MB on disk | usable rows | seconds | peak of the child, MB |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        rows = sentences(count, options.words)
        for name, write in WRITERS.items():
            path = Path(folder) / name
            write(path, rows)
            with get_context("spawn").Pool(1) as pool:  # its children's peak is this file's alone
                usable, seconds, peak = pool.apply(measure, (path,))
            size = path.stat().st_size / 1e6
            print(f"| {name} | {size:.1f} | {usable:,} | {seconds:.1f} | {peak:.0f} |")


if __name__ == "__main__":
    main()
