"""The Demonstrations page: upload, check, accept; then look into a stored set.

`?dataset=SET` opens a set. An upload that was not accepted yet is forgotten after a day.
"""

import gradio as gr

from pages import dataset_actions, upload_actions
from pages.components import dataset_view, upload_report
from pages.components.events import BUSY, FOLLOWING, QUIET
from pages.feedback import handler
from pages.links import KEEP_ADDRESS, from_address
from pages.page import AppContext, Page
from seqmatch.examples import EXAMPLES


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    address = gr.Textbox(visible=False, elem_id="demonstrations-address")
    chosen = gr.Textbox(visible=False, elem_id="demonstrations-chosen")
    gr.Markdown("# Demonstrations")
    examples: list[tuple[str, gr.Button]] = []
    with gr.Row(equal_height=False, elem_classes=["upload-columns"]):
        with gr.Column(scale=3, min_width=320):
            gr.Markdown(
                "## Add your own\n"
                "JSONL, JSON, CSV, TSV, Parquet or plain text; one file or several. Nothing is "
                "used before you accept what was read.",
            )
            files = gr.File(
                file_count="multiple",
                label="Files",
                show_label=False,
                height=140,
                elem_id="demonstrations-files",
            )
            upload_status = gr.HTML(elem_id="demonstrations-upload-status")
        with gr.Column(scale=2, min_width=320):
            gr.Markdown("## Or take an example")
            for name, example in EXAMPLES.items():
                gr.Markdown(example.description, elem_classes=["note"])
                button = gr.Button(f"Add {example.title}", elem_id=f"demonstrations-example-{name}")
                examples.append((name, button))
    report = upload_report.build_report()
    gr.Markdown("## Your sets")
    sets = gr.HTML(elem_id="demonstrations-sets")
    view = dataset_view.build_view(context)

    gr.on(None, None, outputs=[chosen], js=from_address("dataset"))
    upload_report.wire(context, report, files, upload_status, chosen)
    for name, button in examples:
        button.click(
            handler(upload_actions.add_example, context, name),
            None,
            [upload_status, chosen],
            **BUSY,
        )
    # On loading, and whenever another set is chosen.
    gr.on(
        None,
        handler(dataset_actions.show, context),
        [chosen],
        [sets, *view.outputs],
        **FOLLOWING,
    ).then(dataset_actions.address_of, chosen, address, **QUIET).then(
        None, address, js=KEEP_ADDRESS
    )
    dataset_view.wire(context, view, chosen, sets)


PAGE = Page("Demonstrations", "/demonstrations", build)
