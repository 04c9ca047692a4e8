"""A row as the model sees it: each token with its text, its id, and what it is trained for."""

from html import escape

from pages.components.plain import plain
from seqmatch.jobs.task_types import TokenCell, TokenViewResult

_TITLES = {
    "prompt": "prompt, not trained",
    "answer": "answer",
    "noise": "inserted mistake",
    "backspace": "backspace that undoes a mistake",
    "stop": "stop token",
}
_SYMBOLS = {"backspace": "⌫", "stop": "■"}


def token_view_html(view: TokenViewResult) -> str:
    """Returns the tokens of a row as escaped HTML, with a legend and what is trained."""
    if not view.tokens:
        return plain("This row has no tokens.", "empty")
    tokens = "".join(_token(cell) for cell in view.tokens)
    return (
        f"{plain(summary(view))}{_legend(view)}"
        f'<div class="tokens" dir="auto" aria-label="Tokens of the row">{tokens}</div>'
    )


def summary(view: TokenViewResult) -> str:
    """Returns in one line what of the row is trained, and whether the stop token is."""
    num_trained = sum(cell.is_supervised for cell in view.tokens)
    num_noise = sum(cell.part == "noise" for cell in view.tokens)
    stops = [cell for cell in view.tokens if cell.part == "stop"]
    stop = (
        "The stop token is trained."
        if any(cell.is_supervised for cell in stops)
        else "⚠ The stop token is not trained: the row is cut before its end."
    )
    mistakes = f" {num_noise} mistake{'' if num_noise == 1 else 's'} inserted." if num_noise else ""
    return f"{num_trained} of {len(view.tokens)} positions are trained. {stop}{mistakes}"


def _token(cell: TokenCell) -> str:
    shown = _SYMBOLS.get(cell.part) or _shown(cell.text)
    trained = "trained" if cell.is_supervised else "not trained"
    label = f"; learns {cell.label_text!r}" if cell.is_supervised and cell.label_text else ""
    title = escape(f"{_TITLES[cell.part]}; token {cell.id}; {trained}{label}", quote=True)
    return (
        f'<span class="model-token token-{cell.part}" title="{title}">'
        f"<b>{shown}</b><small>{cell.id}</small></span>"
    )


def _legend(view: TokenViewResult) -> str:
    present = [part for part in _TITLES if any(cell.part == part for cell in view.tokens)]
    items = "".join(
        f'<li><span class="model-token token-{part}"><b>{_SYMBOLS.get(part, "a")}</b></span>'
        f"{escape(_TITLES[part])}</li>"
        for part in present
    )
    return f'<ul class="token-legend">{items}</ul>'


def _shown(text: str) -> str:
    if not text:
        return "□"
    marks = {"\n": "↵", "\t": "⇥", " ": "␣"}
    return "".join(
        marks.get(c) or (escape(c, quote=True) if c.isprintable() else "�") for c in text
    )
