"""From what --data says to a stored set: an example, a set in the store, or files to import."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from seqmatch.examples import EXAMPLES, prepare_example
from seqmatch.ingest import UploadReport, discard, freeze, inspect_upload
from seqmatch.jobs.commands.store_access import CommandError, find_dataset
from storage import RunStore
from storage.records import DatasetRecord

_SHOWN_PROBLEMS = 20


def resolve_dataset(store: RunStore, texts: Sequence[str]) -> DatasetRecord:
    """Returns the set that --data names; an example or files are added to the store first.

    Raises:
        CommandError: It is none of these, or a row of the files cannot be used.
    """
    if len(texts) == 1:
        if texts[0] in EXAMPLES:
            return _example(store, texts[0])
        found = find_dataset(store, texts[0])
        if found is not None:
            return found
    paths = existing_files(texts, [*EXAMPLES, *(each.name for each in store.datasets.list())])
    return import_files(store, paths, accept_refused=False)


def existing_files(texts: Sequence[str], known: Sequence[str] = ()) -> list[Path]:
    """Returns the texts as paths.

    Raises:
        CommandError: One of them is no file; `known` are the names that would have done.
    """
    missing = [text for text in texts if not Path(text).is_file()]
    if missing:
        names = f", no stored set and no example; known: {', '.join(known)}" if known else ""
        raise CommandError(f"{', '.join(missing)}: no such file{names}")
    return [Path(text) for text in texts]


def import_files(
    store: RunStore, paths: Sequence[Path], *, accept_refused: bool, name: str = ""
) -> DatasetRecord:
    """Parses files, prints their problems on stderr, and freezes their usable rows into the store.

    Raises:
        CommandError: No row can be used; or some cannot and `accept_refused` is False.
    """
    report = inspect_upload(list(paths))
    try:
        print_problems(report)
        if not report.num_usable:
            raise CommandError("no row can be used")
        if report.num_refused and not accept_refused:
            files = " ".join(str(path) for path in paths)
            raise CommandError(
                f"{report.num_refused} of {report.num_rows_read} rows cannot be used; "
                f"`data import --accept {files}` takes the other {report.num_usable}"
            )
        frozen = freeze(report, store.data_dir / "demonstrations")
    finally:
        discard(report)
    summary = {
        "files": [each.name for each in report.files],
        "mapping": report.detected.model_dump() if report.detected else None,
        "counts": report.counts,
        "num_rows_read": report.num_rows_read,
    }
    title = name or ", ".join(path.name for path in paths)[:120]
    return store.datasets.add(
        frozen.sha256, title, frozen.num_rows, report.num_refused, json.dumps(summary)
    )


def print_problems(report: UploadReport) -> None:
    """Prints the first problems with file, line, code and excerpt, and how many there are."""
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        excerpt = f" [{problem.excerpt}]" if problem.excerpt else ""
        line = f":{problem.line}" if problem.line else ""
        place = f"{problem.file}{line}: " if problem.file else ""
        print(
            f"{place}{problem.severity} {problem.code}: {problem.message}{excerpt}",
            file=sys.stderr,
        )
    more = report.num_problems - min(len(report.problems), _SHOWN_PROBLEMS)
    if more:
        counts = ", ".join(f"{code} {count}" for code, count in sorted(report.counts.items()))
        print(f"... and {more} more problems; in all: {counts}", file=sys.stderr)


def _example(store: RunStore, name: str) -> DatasetRecord:
    """The same rows and the same summary as the pages store."""
    example = EXAMPLES[name]
    frozen = prepare_example(name, store.data_dir / "demonstrations")
    summary = {
        "example": name,
        "description": example.description,
        "licence": example.licence,
        "suggested_config": example.suggested,
    }
    return store.datasets.add(frozen.sha256, example.title, frozen.num_rows, 0, json.dumps(summary))
