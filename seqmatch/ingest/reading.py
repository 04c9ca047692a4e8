"""Reads uploaded files into canonical rows and a report. Runs inside the limited child process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from seqmatch.ingest import sniffing
from seqmatch.ingest.canonical import to_lines
from seqmatch.ingest.columns import SAMPLE_ROWS, Detection, detect
from seqmatch.ingest.conversion import convert
from seqmatch.ingest.delimited import read_delimited
from seqmatch.ingest.json_rows import read_json_array, read_json_lines
from seqmatch.ingest.lines import BYTE_ORDER_MARK
from seqmatch.ingest.parquet_rows import read_parquet
from seqmatch.ingest.plain_text import read_plain_text
from seqmatch.ingest.problems import FileProblem, ProblemLog, RowProblem
from seqmatch.ingest.report import ColumnMapping, FileKind, FileReport, Limits, UploadReport
from seqmatch.ingest.row_checks import RowChecks
from seqmatch.ingest.rows import Row

FEW_ROWS = 10
_FALLBACK = ColumnMapping(
    format="prompt_completion", fields={"prompt": "prompt", "completion": "completion"}
)
_READERS: dict[FileKind, Callable[[BinaryIO, Limits, ProblemLog], Iterator[Row]]] = {
    "jsonl": read_json_lines,
    "json_array": read_json_array,
    "delimited": read_delimited,
    "text": read_plain_text,
}


@dataclass
class _Counts:
    """What was found in one file."""

    num_rows_read: int = 0
    num_usable: int = 0
    num_demonstrations: int = 0


@dataclass
class _Upload:
    """The state that all files of an upload share."""

    limits: Limits
    mapping: ColumnMapping | None
    output: BinaryIO
    log: ProblemLog
    checks: RowChecks
    num_bytes_written: int = 0
    counts: _Counts = field(default_factory=_Counts)


def read_upload(
    paths: list[Path],
    rows_path: Path,
    limits: Limits,
    mapping: ColumnMapping | None,
    on_file: Callable[[str], None],
) -> UploadReport:
    """Reads the files in their order, writes the usable rows, and reports everything else.

    `on_file` is called with the name of each file before it is opened.
    """
    log = ProblemLog(limits.max_problems)
    with rows_path.open("wb") as output:
        upload = _Upload(limits, mapping, output, log, RowChecks(log))
        files = []
        for path in paths:
            on_file(path.name)
            files.append(_read_file(path, upload))
    total = upload.counts
    log.start_file("")
    if total.num_rows_read and not total.num_demonstrations:
        log.add("E102", f"none of the {total.num_rows_read:,} rows can be used")
    if 0 < total.num_demonstrations < FEW_ROWS:
        log.add(
            "W231", f"there are only {total.num_demonstrations} demonstrations; {FEW_ROWS} is few"
        )
    columns = tuple(dict.fromkeys(chain.from_iterable(file.columns for file in files)))
    detected = next((file.mapping for file in files if file.mapping is not None), mapping)
    return UploadReport(
        files=tuple(files),
        detected=detected,
        columns=columns,
        problems=log.listed(),
        counts=dict(sorted(log.counts.items())),
        num_rows_read=total.num_rows_read,
        num_usable=total.num_usable,
        num_refused=total.num_rows_read - total.num_usable,
        num_demonstrations=total.num_demonstrations,
        rows_path=rows_path if total.num_demonstrations else None,
    )


def _read_file(path: Path, upload: _Upload) -> FileReport:
    log, counts = upload.log, _Counts()
    log.start_file(path.name)
    kind: FileKind = "unreadable"
    detection = Detection(None, ())
    try:
        with path.open("rb") as stream:
            kind = sniffing.sniff(stream.read(sniffing.HEAD_BYTES), path.name, log)
            with _rows(kind, stream, path, upload) as rows:
                sample = _sample(rows)
                detection = _detect(sample, upload)
                _use_rows(chain(sample, rows), detection, path.name, upload, counts)
    except FileProblem as problem:
        log.add(
            problem.code,
            problem.message,
            line=problem.line,
            column=problem.column,
            excerpt=problem.excerpt,
        )
    else:
        if not counts.num_rows_read:
            log.add("E102", "the file holds no row; a first row with names alone is not enough")
    total = upload.counts
    total.num_rows_read += counts.num_rows_read
    total.num_usable += counts.num_usable
    total.num_demonstrations += counts.num_demonstrations
    return FileReport(
        name=path.name,
        kind=kind,
        num_bytes=path.stat().st_size,
        mapping=detection.mapping,
        columns=detection.columns,
        num_rows_read=counts.num_rows_read,
        num_usable=counts.num_usable,
        num_refused=counts.num_rows_read - counts.num_usable,
        num_demonstrations=counts.num_demonstrations,
    )


@contextmanager
def _rows(kind: FileKind, stream: BinaryIO, path: Path, upload: _Upload) -> Iterator[Iterator[Row]]:
    if kind == "parquet":
        yield read_parquet(path, upload.limits)
        return
    stream.seek(0)
    if stream.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
        upload.log.add("W201", "the byte order mark at the start was skipped", line=1)
    else:
        stream.seek(0)
    yield _READERS[kind](stream, upload.limits, upload.log)


def _sample(rows: Iterator[Row]) -> list[Row]:
    """Takes the first rows; a problem of the file that comes before them is put back as a row."""
    sample: list[Row] = []
    try:
        sample.extend(islice(rows, SAMPLE_ROWS))
    except FileProblem as problem:
        sample.append(Row(problem.line, problem=problem))
    return sample


def _detect(sample: list[Row], upload: _Upload) -> Detection:
    detection = detect(row.values for row in sample if row.values is not None)
    if upload.mapping is not None:
        return Detection(upload.mapping, detection.columns)
    if detection.doubt:
        upload.log.add("W212", f"{detection.doubt}; change the mapping if this is wrong")
    mapping = detection.mapping
    unused = [c for c in detection.columns if mapping and c not in mapping.fields.values()]
    if unused:
        upload.log.add("I303", f"not used: {', '.join(unused[:20])}", column=unused[0])
    return detection


def _use_rows(
    rows: Iterator[Row], detection: Detection, name: str, upload: _Upload, counts: _Counts
) -> None:
    mapping = detection.mapping or upload.mapping or _FALLBACK
    for row in rows:
        if isinstance(row.problem, FileProblem):
            raise row.problem
        if upload.counts.num_rows_read + counts.num_rows_read >= upload.limits.max_rows:
            raise FileProblem(
                "E134",
                f"there are more than {upload.limits.max_rows:,} rows; the rest was not read",
                line=row.line,
            )
        counts.num_rows_read += 1
        try:
            _use_row(row, mapping, name, upload, counts)
        except RowProblem as problem:
            upload.log.add(
                problem.code,
                problem.message,
                line=problem.line or row.line,
                column=problem.column,
                excerpt=problem.excerpt,
            )
            if isinstance(problem, FileProblem):
                return


def _use_row(row: Row, mapping: ColumnMapping, name: str, upload: _Upload, counts: _Counts) -> None:
    if row.values is None:
        assert row.problem is not None
        raise row.problem
    converted = convert(row.values, mapping, f"{name}:{row.line}")
    lines = [to_lines(demonstration)[0] for demonstration in converted.demonstrations]
    upload.num_bytes_written += sum(map(len, lines))
    if upload.num_bytes_written > upload.limits.max_unpacked_bytes:
        raise FileProblem(
            "E132",
            f"the demonstrations together are more than {upload.limits.max_unpacked_bytes:,} "
            "bytes; the rest was not read",
        )
    upload.output.writelines(lines)
    if converted.unused_keys:
        keys = ", ".join(converted.unused_keys)
        upload.log.add("W220", f"keys of messages that are not used: {keys}", line=row.line)
    upload.checks.check(converted.demonstrations, row.line)
    counts.num_usable += 1
    counts.num_demonstrations += len(lines)
