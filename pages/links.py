"""Addresses of pages: the state of a page is in its address, and values are always quoted."""

from urllib.parse import urlencode

GO_TO = "(address) => { if (address) { window.location.href = address; } }"
"""JavaScript of an event: opens the address that a handler returned, if any."""

KEEP_ADDRESS = (
    "(address) => { if (address) { window.history.replaceState(window.history.state, '', address);"
    " } }"
)
"""JavaScript of an event: shows the address of what is on the page, so that a reload keeps it."""


def from_address(name: str) -> str:
    """Returns JavaScript of an event of loading: the value that the address gives to a name.

    It needs no server, so that no late answer overwrites what a person chose meanwhile.
    """
    return f"() => new URLSearchParams(window.location.search).get('{name}') || ''"


def link(page: str, **query: str) -> str:
    """Returns the address of a page beside this one, for example `run?run=ID`.

    Relative, so that it holds behind a proxy and over a share link.
    """
    return f"{page}?{urlencode(query)}" if query else page
