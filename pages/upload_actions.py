"""The handlers of an upload: take the files, check them, freeze what is accepted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from pages import uploads
from pages.components.plain import plain
from pages.example import add_example_set
from pages.page import AppContext
from pages.presenters.upload_report import (
    ALL_FIELDS,
    accept_label,
    fields_of,
    preview_html,
    report_html,
)
from seqmatch.errors import DemonstrationError, SeqMatchError
from seqmatch.examples import EXAMPLES
from seqmatch.ingest import (
    ColumnMapping,
    Limits,
    UploadReport,
    freeze,
    inspect_upload,
    preview,
)

PREVIEW_ROWS = 5
_REPORT = Path("report") / "report.json"
_NUM_OUTPUTS = 7 + len(ALL_FIELDS)


def receive(context: AppContext, files: Sequence[str]) -> list[Any]:
    """Takes uploaded files out of the web server's cache and checks them."""
    try:
        token = uploads.take(context.data_dir, files)
        name = uploads.paths(context.data_dir, token)[0].stem
        return ["", token, None, *_checked(context, token, name, None)]
    except SeqMatchError as error:
        hidden = [gr.update(visible=False), *([gr.skip()] * (_NUM_OUTPUTS - 1))]
        return [plain(f"⚠ Not read: {error}", "problem"), "", None, *hidden]


def choose_format(form: str) -> list[Any]:
    """Shows the columns that this format needs; what is accepted must be checked again first."""
    return [*(gr.update(visible=name in fields_of(form)) for name in ALL_FIELDS), stale()]


def stale() -> Any:
    """Returns the accept button while the mapping is not the one that was checked."""
    return gr.update(value="Check again first", interactive=False)


def check_again(
    context: AppContext, token: str, name: str, form: str, *columns: str | None
) -> list[Any]:
    """Checks the upload with the mapping that the person chose."""
    try:
        return ["", *_checked(context, token, name, _mapping(form, columns))]
    except SeqMatchError as error:
        return [plain(f"⚠ {error}", "problem"), *([gr.skip()] * _NUM_OUTPUTS)]


def accept(context: AppContext, token: str, name: str) -> list[Any]:
    """Freezes the usable rows of the report that is shown as a set, and opens it."""
    try:
        report = _shown_report(context, token)
        shown_name = name.strip()[:120] or "demonstrations"
        dataset_id, num_rows = _store(context, report, shown_name)
    except SeqMatchError as error:
        return [plain(f"⚠ Not stored: {error}", "problem"), gr.skip(), gr.skip()]
    uploads.discard(context.data_dir, token)
    words = f"Stored {num_rows:,} demonstrations as “{shown_name}”, opened below."
    return [plain(words, "good"), dataset_id, gr.update(visible=False)]


def discard(context: AppContext, token: str) -> list[Any]:
    """Forgets an upload."""
    uploads.discard(context.data_dir, token)
    return [plain("The upload is forgotten."), gr.update(visible=False)]


def add_example(context: AppContext, name: str) -> list[Any]:
    """Adds a bundled example and opens it."""
    dataset_id = add_example_set(context, name)
    words = f"“{EXAMPLES[name].title}” is ready, opened below."
    return [plain(words, "good"), dataset_id]


def _checked(
    context: AppContext, token: str, name: str, mapping: ColumnMapping | None
) -> list[Any]:
    report = inspect_upload(
        uploads.paths(context.data_dir, token),
        limits=Limits(max_file_bytes=context.max_upload_mb * 1_000_000),
        mapping=mapping,
        work_dir=(uploads.folder_of(context.data_dir, token) / _REPORT).parent,
    )
    _keep_report(context, token, report)
    detected = mapping or report.detected
    form = detected.format if detected else None
    chosen = detected.fields if detected else {}
    columns = [
        gr.update(
            choices=["", *report.columns],
            value=chosen.get(field, ""),
            visible=bool(form) and field in fields_of(str(form)),
        )
        for field in ALL_FIELDS
    ]
    rows = preview(report.rows_path, count=PREVIEW_ROWS) if report.rows_path else []
    return [
        gr.update(visible=True),
        report_html(report),
        gr.update(value=form),
        *columns,
        preview_html(rows, report.num_demonstrations),
        gr.update(value=name, visible=report.num_usable > 0),
        gr.update(value=accept_label(report), interactive=True, visible=report.num_usable > 0),
        gr.update(open=report.num_usable == 0),
    ]


def _mapping(form: str | None, columns: Sequence[str | None]) -> ColumnMapping:
    chosen = dict(zip(ALL_FIELDS, columns, strict=True))
    if not form:
        raise DemonstrationError("choose a format first")
    fields = {name: column for name in fields_of(form) if (column := chosen[name])}
    try:
        return ColumnMapping.model_validate({"format": form, "fields": fields})
    except ValidationError as error:
        missing = ", ".join(name for name in fields_of(form) if name not in fields)
        raise DemonstrationError(f"choose a column for: {missing}") from error


def _keep_report(context: AppContext, token: str, report: UploadReport) -> None:
    path = uploads.folder_of(context.data_dir, token) / _REPORT
    path.parent.mkdir(exist_ok=True)
    path.write_text(report.model_dump_json())


def _shown_report(context: AppContext, token: str) -> UploadReport:
    path = uploads.folder_of(context.data_dir, token) / _REPORT
    return UploadReport.model_validate_json(path.read_text())


def _store(context: AppContext, report: UploadReport, name: str) -> tuple[str, int]:
    dataset_id, _, num_rows = freeze(report, context.data_dir / "demonstrations")
    summary = {
        "files": [one.name for one in report.files],
        "mapping": report.detected.model_dump() if report.detected else None,
        "counts": report.counts,
        "num_rows_read": report.num_rows_read,
    }
    context.store.datasets.add(dataset_id, name, num_rows, report.num_refused, json.dumps(summary))
    return dataset_id, num_rows
