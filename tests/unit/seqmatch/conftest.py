"""Where the packaged model is, for the tests that need it."""

import os
from pathlib import Path

import pytest

from seqmatch import packaged_model

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of prepared models: SEQMATCH_MODELS_DIR, or that of `make model`."""
    named = os.environ.get("SEQMATCH_MODELS_DIR")
    return Path(named) if named else REPOSITORY / "seqmatch-data" / "models"


@pytest.fixture(scope="session")
def smollm2_folder(models_dir: Path) -> Path:
    """The converted SmolLM2; the test is skipped where it was not prepared."""
    if not packaged_model.is_prepared(models_dir):
        pytest.skip(f"no packaged model in {models_dir}; `make model` prepares it")
    return packaged_model.folder(models_dir)
