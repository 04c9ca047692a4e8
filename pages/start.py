"""The first page: what can be done here, and one button that does all of it on an example."""

import time
from typing import Any

import gradio as gr

from pages.components.events import BUSY, POLLING, QUIET
from pages.example import run_example
from pages.feedback import handler
from pages.links import GO_TO
from pages.page import AppContext, Page
from pages.presenters.palette import run_looks
from pages.presenters.runs import runs_table

POLL_SECONDS = 5.0
NUM_RECENT = 5
_LEAD = """<p class="lead">Align a language model with expert answers alone: choose the divergence
between the model and the expert, train in the background, and compare answers with and without the
backspace action, by which the policy takes back its own mistakes.</p>"""
_STEPS = """<ol class="steps-list">
<li><a href="demonstrations">Demonstrations</a><p>Upload prompts with expert answers, or take an
example. Every row that cannot be used is named.</p></li>
<li><a href="train">Train</a><p>Choose a base model and an objective. The run is queued and goes on
when this page is closed.</p></li>
<li><a href="runs">Runs</a><p>Follow the curves, stop, resume, overlay several runs.</p></li>
<li><a href="compare">Compare</a><p>The same prompts and random numbers for every policy, with each
deletion shown. Then download the adapter.</p></li>
<li><a href="oracle">Oracle</a><p>What each divergence does, in languages small enough to know it
exactly. Needs no demonstrations.</p></li>
</ol>"""


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    gr.Markdown("# SeqMatch")
    gr.HTML(_LEAD)
    with gr.Row(elem_classes=["button-row"]):
        example = gr.Button("Run the example", variant="primary", elem_id="start-example")
    gr.HTML(
        '<p class="hint">Trains a small model on 5,000 three-digit additions, once with '
        "SequenceMatch and once with plain SFT to compare: a few minutes each on two cores.</p>"
    )
    gr.HTML(_STEPS)
    gr.Markdown("## Recent runs")
    recent = gr.HTML('<p class="empty" role="status">Loading …</p>', elem_id="start-recent")
    address = gr.Textbox(visible=False, elem_id="start-address")
    example.click(handler(run_example, context), None, address, **BUSY).then(
        None, address, js=GO_TO
    )
    show = handler(recent_runs, context)
    seen = gr.State("")
    gr.on(None, show, seen, [seen, recent], **{**QUIET, "trigger_mode": "once"})
    gr.Timer(POLL_SECONDS).tick(show, seen, [seen, recent], **POLLING)


def recent_runs(context: AppContext, seen: str) -> list[Any]:
    """Returns the newest runs where something changed."""
    runs = context.store.runs.list(limit=NUM_RECENT)
    looks = run_looks(context.store.runs.list(include_deleted=True))
    datasets = {one.id: one for one in context.store.datasets.list()}
    table = runs_table(runs, datasets, looks, time.time())
    return [gr.skip(), gr.skip()] if table == seen else [table, table]


PAGE = Page("Start", "/", build)
