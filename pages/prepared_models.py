"""Whether a packaged model's weights are on this machine, without loading what prepares them."""

from pathlib import Path

MARK = "SHA256SUMS"
"""Written last by `seqmatch.packaged_model`, so a folder that has it is whole."""


def is_prepared(models_dir: Path, name: str) -> bool:
    """Returns True where the model of this name is complete; `name` is one of `BASE_MODELS`."""
    return (models_dir / name / MARK).is_file()
