"""The devices of this machine as slots, found without loading torch."""

import shutil
import subprocess
from collections.abc import Sequence

_TIMEOUT_SECONDS = 20


def device_names() -> list[str]:
    """Returns "cuda:0", ... for the GPUs that the driver lists, or "cpu" where there are none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ["cpu:0"]
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ["cpu:0"]
    indices = [line.strip() for line in listed.stdout.splitlines()]
    return [f"cuda:{index}" for index in indices if index.isdigit()] or ["cpu:0"]


def slot_names(devices: Sequence[str], concurrency: int) -> list[str]:
    """Returns `concurrency` slots for each device: "cpu:0", "cpu:0:1", "cpu:0:2", ..."""
    return [
        device if place == 0 else f"{device}:{place}"
        for place in range(max(1, concurrency))
        for device in devices
    ]
