"""What a child process gets of the environment: named variables, so that no token leaks."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TOKEN_VARIABLE = "SEQMATCH_JOB_TOKEN"
ROOT = Path(__file__).resolve().parents[2]
"""Where `python -m seqmatch...` finds the package."""

_KEPT = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "SSL_CERT_FILE",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "ALLOW_OLD_SQLITE",
    "SEQMATCH_CUDA_GRAPHS",
)
_FOR_DOWNLOADS = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_CONFIG_FILE",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_FIND_LINKS",
    "PIP_NO_INDEX",
)


def child_environment(source: Mapping[str, str] | None = None, **extra: str) -> dict[str, str]:
    """Returns the environment of a child: what is known to be harmless, and `extra`.

    Args:
        source: Whose environment; by default this process's.
        extra: Variables to set.
    """
    here = os.environ if source is None else source
    kept = {name: here[name] for name in (*_KEPT, *_FOR_DOWNLOADS) if name in here}
    fixed = {
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONDONTWRITEBYTECODE": here.get("PYTHONDONTWRITEBYTECODE", ""),
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        # Threads that wait for each other while another process has their core would spin: with
        # two threads on a busy two-core machine a step then takes ten times as long.
        "OMP_WAIT_POLICY": "passive",
    }
    return {**kept, **fixed, **extra}


def python_module(module: str, *arguments: str) -> list[str]:
    """Returns the command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *arguments]
