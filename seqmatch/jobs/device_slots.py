"""The devices of this machine as slots, found without loading torch."""

import shutil
import subprocess
from collections.abc import Sequence

_TIMEOUT_SECONDS = 20


def device_names() -> list[str]:
    """Returns "cuda:0", ... for the GPUs that the driver lists, and always "cpu:0" after them."""
    return [*_gpu_names(), "cpu:0"]


def _gpu_names() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        listed = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    indices = [line.strip() for line in listed.stdout.splitlines()]
    return [f"cuda:{index}" for index in indices if index.isdigit()]


def slot_names(devices: Sequence[str], concurrency: int) -> list[str]:
    """Returns `concurrency` slots for each device: "cpu:0", "cpu:0:1", "cpu:0:2", ..."""
    return [
        device if place == 0 else f"{device}:{place}"
        for place in range(max(1, concurrency))
        for device in devices
    ]


def num_processes(device: str) -> int:
    """Returns how many processes train a run on these devices, one for each that is named."""
    return len(device.split(","))


def visible_gpus(device: str, slots: str) -> str | None:
    """Returns the GPUs that a trainer may see, for CUDA_VISIBLE_DEVICES; None for all of them.

    It sees those of its slots alone; those that a config names keep their numbers.

    Args:
        device: The config's.
        slots: What was claimed for it, several with commas between them.
    """
    if slots.startswith("cpu"):
        return ""
    if any(":" in name for name in device.split(",")):
        return None
    return ",".join(slot.split(":")[1] for slot in slots.split(","))
