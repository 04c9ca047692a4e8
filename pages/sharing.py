"""When the application may be reached by others, and the public link through Gradio's tunnel."""

import ipaddress
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from gradio import Blocks, networking
from gradio.tunneling import BINARY_PATH

from seqmatch.errors import ConfigError

WAIT_SECONDS = 12.0
WARNING = (
    "This link is public for up to a week: whoever has it sees the sign-in page, and the operator "
    "of the tunnel can see the traffic. Stop the application to end it."
)


def is_loopback(host: str) -> bool:
    """Returns True where a server bound to this host is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_reach(host: str, share: bool, users_file: Path | None) -> None:
    """Refuses to be reached by others without users.

    Raises:
        ConfigError: a share link or another bind than loopback, and no users.
    """
    if users_file is not None or (not share and is_loopback(host)):
        return
    what = "--share" if share else f"--host {host}"
    raise ConfigError(
        f"{what} lets others reach this application, and no users are configured. Make one and "
        "start with it:\n"
        "  python -m pages.auth add NAME --file users.json\n"
        f"  python app.py {what} --auth users.json"
    )


def check_port(host: str, port: int) -> None:
    """Refuses an address that another program listens on, or that is not this machine's.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({error}); another address: --port, --host"
            ) from error


def share(
    app: Blocks, on_link: Callable[[str], None], *, wait_seconds: float = WAIT_SECONDS
) -> str | None:
    """Opens the public link of a running application, or says in seconds why there is none.

    The tunnel is set up on a thread of its own: a firewall that drops packets keeps Gradio waiting
    for more than half a minute, and the local application is not to wait for it.

    Args:
        app: The launched application.
        on_link: Is called with the link before it is returned, and also when it comes too late.
        wait_seconds: How long to wait for it.

    Returns:
        Why there is no link (yet), in a sentence; None where there is one.
    """
    problems: list[str] = []

    def connect() -> None:
        try:
            address = networking.setup_tunnel(
                app.server_name, app.server_port, app.share_token, None, None
            )
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error)
            if not Path(BINARY_PATH).exists():
                reason = f"the tunnel program could not be downloaded to {BINARY_PATH}"
            problems.append(reason)
            return
        app.share = True
        app.share_url = urlunsplit(("https", *urlsplit(address)[1:]))
        on_link(app.share_url)

    thread = threading.Thread(target=connect, name="share-link", daemon=True)
    thread.start()
    thread.join(wait_seconds)
    if thread.is_alive():
        return f"no answer after {wait_seconds:.0f} s; the link is printed if it still comes"
    return problems[0] if problems else None
