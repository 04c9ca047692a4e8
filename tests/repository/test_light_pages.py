"""The web process holds no model: what it imports must not bring one in."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    *("torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "safetensors"),
    "sklearn",
)


@pytest.mark.parametrize("code", ["import app; app.load_pages()", "import pages.auth"])
def test_importing_the_application_brings_in_no_model(code: str) -> None:
    script = f"{code}; import sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_presenters_need_no_gradio() -> None:
    names = sorted(path.stem for path in (ROOT / "pages/presenters").glob("[a-z]*.py"))
    imports = "; ".join(f"import pages.presenters.{name}" for name in names)
    script = f"{imports}; import sys; print('gradio' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
