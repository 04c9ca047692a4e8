"""Which device slots a run may take: a slot is `kind:number`, or `kind:number:place` for more runs.

A run names one device, or several with commas between them, one for each of its processes. Its
processes on the CPU share one slot; those on GPUs need a slot each, on GPUs of their own.
"""

from collections.abc import Iterable, Sequence


def several(slots: Iterable[str]) -> str:
    """Returns the names of slots as one, as a claim and a run's record have them."""
    return ",".join(slots)


def place(device: str, slots: Sequence[str], has_gpu: bool) -> list[str] | None:
    """Returns the slots that a run takes, one for each device that it names; None without room.

    "auto" takes a GPU, or any slot where there is no GPU: it waits for a busy GPU rather than
    crawl on the CPU beside it. "cuda" takes "cuda:0" and its like, "cuda:1" just itself.

    Args:
        device: What the run asks for.
        slots: Those that it might take, the preferred ones first.
        has_gpu: Whether there is any GPU, busy or not.
    """
    names = device.split(",")
    if names[0] == "cpu":
        names = names[:1]
    taken: list[str] = []
    for name in names:
        used = {_device_of(slot) for slot in taken}
        for slot in slots:
            if _fits(name, slot, has_gpu) and _device_of(slot) not in used:
                taken.append(slot)
                break
        else:
            return None
    return taken


def is_gpu(slot: str) -> bool:
    """Tells whether a slot is on a GPU."""
    return not slot.startswith("cpu")


def _fits(wanted: str, slot: str, has_gpu: bool) -> bool:
    if wanted == "auto":
        return is_gpu(slot) or not has_gpu
    return slot == wanted or slot.startswith(f"{wanted}:")


def _device_of(slot: str) -> str:
    return ":".join(slot.split(":")[:2])
