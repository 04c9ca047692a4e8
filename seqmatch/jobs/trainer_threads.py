"""How many threads a trainer computes with: the one place."""

from seqmatch.base_models import BASE_MODELS

SMALL_MODEL = 5_000_000
"""Parameters. Below, the threads of one operation wait for each other longer than they work: a step
of byte-llama-small took 46 ms with two threads and 42 ms with one."""


def trainer_threads(base_model: str, num_cores: int, num_slots: int) -> int:
    """Returns the number of threads of a trainer.

    Args:
        base_model: What it trains; one that is not built in counts as large.
        num_cores: The cores of this machine that we may use.
        num_slots: How many trainers may compute on them at once.
    """
    known = BASE_MODELS.get(base_model)
    if known is not None and known.num_parameters < SMALL_MODEL:
        return 1
    return max(1, num_cores // max(1, num_slots))
