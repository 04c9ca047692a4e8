"""The report of an upload: what was read, the mapping that can be changed, and accepting it."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from pages import upload_actions
from pages.components.events import BUSY, QUIET
from pages.feedback import handler
from pages.page import AppContext
from pages.presenters.upload_report import ALL_FIELDS
from seqmatch.ingest.report import FORMATS


@dataclass(frozen=True)
class Report:
    """The components of the report."""

    token: gr.Textbox
    group: gr.Column
    findings: gr.HTML
    format: gr.Dropdown
    columns: dict[str, gr.Dropdown]
    mapping: gr.Accordion
    check: gr.Button
    preview: gr.HTML
    name: gr.Textbox
    accept: gr.Button
    discard: gr.Button

    @property
    def outputs(self) -> list[Component]:
        """What a new report changes."""
        return [
            self.group,
            self.findings,
            self.format,
            *self.columns.values(),
            self.preview,
            self.name,
            self.accept,
            self.mapping,
        ]


def build_report() -> Report:
    """Builds the report, hidden until there is an upload."""
    token = gr.Textbox(visible=False, elem_id="demonstrations-upload")
    with gr.Column(visible=False, elem_id="demonstrations-report") as group:
        findings = gr.HTML(elem_id="demonstrations-findings")
        with gr.Accordion(
            "Format and columns", open=False, elem_id="demonstrations-mapping"
        ) as mapping:
            with gr.Row(elem_classes=["form-grid"]):
                form = gr.Dropdown(
                    choices=[(info.title, name) for name, info in FORMATS.items()],
                    label="Format",
                    info="As detected; choose another one where it is not right.",
                    filterable=False,
                    elem_id="demonstrations-format",
                )
                columns = {
                    role: gr.Dropdown(
                        choices=[],
                        label=f"Column for {role}",
                        visible=False,
                        elem_id=f"demonstrations-column-{role}",
                    )
                    for role in ALL_FIELDS
                }
            check = gr.Button("Check again", size="sm", elem_id="demonstrations-check")
        preview = gr.HTML(elem_id="demonstrations-preview")
        name = gr.Textbox(label="Name of the set", max_lines=1, elem_id="demonstrations-set-name")
        with gr.Row(elem_classes=["button-row"]):
            accept = gr.Button("Use the rows", variant="primary", elem_id="demonstrations-accept")
            discard = gr.Button("Discard", elem_id="demonstrations-discard")
    return Report(
        token, group, findings, form, columns, mapping, check, preview, name, accept, discard
    )


def wire(
    context: AppContext, report: Report, files: gr.File, status: gr.HTML, chosen: gr.Textbox
) -> None:
    """Wires the report: upload, check again, accept, discard."""
    columns = list(report.columns.values())
    files.upload(
        handler(upload_actions.receive, context),
        files,
        [status, report.token, files, *report.outputs],
        **BUSY,
    )
    report.format.input(
        upload_actions.choose_format, report.format, [*columns, report.accept], **QUIET
    )
    for column in columns:
        column.input(upload_actions.stale, None, report.accept, **QUIET)
    report.check.click(
        handler(upload_actions.check_again, context),
        [report.token, report.name, report.format, *columns],
        [status, *report.outputs],
        **BUSY,
    )
    report.accept.click(
        handler(upload_actions.accept, context),
        [report.token, report.name],
        [status, chosen, report.group],
        **BUSY,
    )
    report.discard.click(
        handler(upload_actions.discard, context), report.token, [status, report.group], **QUIET
    )
