"""What all tests share: one torch thread and fixed seeds, so that numbers repeat on any machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import random
import sys

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Seeds the global generators; torch only where a test module has imported it already."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(0)
        if torch.get_num_threads() != 1:
            torch.set_num_threads(1)
