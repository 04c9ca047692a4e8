"""From untrusted uploaded files to frozen demonstrations.

    report = inspect_upload(paths)       # parsed in a limited child process
    frozen = freeze(report, root)        # rows.jsonl under its content hash
    demonstrations = read_frozen(frozen.folder)

Light: no torch, transformers, datasets or pandas; pyarrow only in the child process.
"""

from seqmatch.ingest.frozen import (
    FrozenSet,
    freeze,
    freeze_demonstrations,
    preview,
    read_frozen,
)
from seqmatch.ingest.inspection import discard, inspect_upload
from seqmatch.ingest.report import (
    FORMATS,
    ColumnMapping,
    FileReport,
    Limits,
    Problem,
    UploadReport,
)

__all__ = [
    "FORMATS",
    "ColumnMapping",
    "FileReport",
    "FrozenSet",
    "Limits",
    "Problem",
    "UploadReport",
    "discard",
    "freeze",
    "freeze_demonstrations",
    "inspect_upload",
    "preview",
    "read_frozen",
]
