"""What parent and child agree on: the request, the names of files, and an exit status."""

from pathlib import Path

from seqmatch.ingest.report import ColumnMapping, Limits
from seqmatch.objectives.base import Frozen

REQUEST, REPORT, ROWS, CURRENT = "request.json", "report.json", "rows.jsonl", "reading.txt"
OUT_OF_MEMORY = 3


class Request(Frozen):
    """What the parent asks for."""

    paths: tuple[Path, ...]
    limits: Limits
    mapping: ColumnMapping | None
