"""What a visitor sees when a handler fails: expected errors in their own words, others as a number.

This is the one place of the pages that catches everything.
"""

import inspect
import logging
import secrets
import typing
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from typing import Any

import gradio as gr
from pydantic import ValidationError

from seqmatch.errors import SeqMatchError
from storage.errors import StorageError, StoreBusyError

_LOG = logging.getLogger("seqmatch.pages")
_MARK = "_shows_errors"


def handler(function: Callable[..., Any], *bound: Any) -> Callable[..., Any]:
    """Binds the first arguments of a handler and makes it show its errors.

    Gradio reads types from the signature (`gr.Request` is passed by its annotation) and does not
    see through `functools.partial`; what is returned here is a plain function with the remaining
    parameters.
    """
    target = function.func if isinstance(function, partial) else function
    call = (
        _generator(function, bound)
        if inspect.isgeneratorfunction(target)
        else _plain(function, bound)
    )
    signature = inspect.signature(function)
    remaining = list(signature.parameters.values())[len(bound) :]
    hints = typing.get_type_hints(target)
    update_wrapper(call, target)
    del call.__wrapped__  # type: ignore[attr-defined]
    call.__signature__ = signature.replace(parameters=remaining)  # type: ignore[attr-defined]
    names = {parameter.name for parameter in remaining}
    call.__annotations__ = {name: hint for name, hint in hints.items() if name in names}
    setattr(call, _MARK, True)
    return call


def _plain(function: Callable[..., Any], bound: tuple[Any, ...]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        try:
            return function(*bound, *values)
        except Exception as error:
            raise shown_error(error) from error

    return call


def _generator(function: Callable[..., Any], bound: tuple[Any, ...]) -> Callable[..., Any]:
    def call(*values: Any) -> Iterator[Any]:
        try:
            yield from function(*bound, *values)
        except Exception as error:
            raise shown_error(error) from error

    return call


def show_all_errors(app: gr.Blocks) -> None:
    """Sees to it that every handler of an application shows its errors, whoever wired it."""
    for wired in app.fns.values():
        function = wired.fn
        is_ours = getattr(function, _MARK, False) or inspect.iscoroutinefunction(function)
        if function is not None and not is_ours:
            wired.fn = handler(function)


def shown_error(error: Exception) -> gr.Error:
    """Returns the notice for an error: its text where it was meant for people, else a number."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, StoreBusyError):
        text = "The store is busy. Nothing was changed; try again in a moment."
        return gr.Error(text, print_exception=False)
    if isinstance(error, SeqMatchError | StorageError):
        return gr.Error(_sentence(str(error)), print_exception=False)
    if isinstance(error, ValidationError):
        return gr.Error("A stored setting does not fit this version.", print_exception=False)
    number = secrets.token_hex(4)
    _LOG.error("error %s in a page", number, exc_info=error)
    text = f"Something went wrong. The server's log has the details under error {number}."
    return gr.Error(text, print_exception=False)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
