"""Rules of the house that no linter holds: sizes, paths, registry hosts, documents that keep up."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = {"tests": 500, "other": 400}


def tracked(pattern: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_files_stay_short_enough_to_read() -> None:
    too_long = {}
    for path in tracked("*.py"):
        limit = MAX_LINES["tests" if path.is_relative_to(ROOT / "tests") else "other"]
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > limit:
            too_long[str(path.relative_to(ROOT))] = num_lines
    assert not too_long


def test_no_catch_all_modules() -> None:
    names = {path.stem for path in tracked("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("pattern", ["*.py", "*.md", "*.toml", "*.sh", "Makefile", "*.txt"])
def test_no_absolute_path_of_a_machine(pattern: str) -> None:
    machine_path = re.compile(r"/(?:home|root|work|Users)/[a-z]")
    offenders = [
        str(path.relative_to(ROOT))
        for path in tracked(pattern)
        if not path.is_relative_to(ROOT / "tests")  # where invented paths are the input
        and machine_path.search(path.read_text(encoding="utf-8"))
    ]
    assert not offenders


def test_every_pin_has_its_reason() -> None:
    reasons = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").lower()
    missing = []
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            requirement = re.match(r"([A-Za-z0-9_-]+)==", line)
            if requirement and requirement[1].lower() not in reasons:
                missing.append(requirement[1])
    assert not missing


def test_every_pin_is_exact() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith(("#", "-r")):
                assert "==" in line, f"{name}: {line}"


def test_files_named_in_documents_exist() -> None:
    missing: dict[str, list[str]] = {}
    for document in [*tracked("*.md")]:
        text = document.read_text(encoding="utf-8")
        for name in re.findall(
            r"`((?:docs|seqmatch|storage|pages|tests|scripts|benchmarks)/[\w./-]+)`", text
        ):
            if not (ROOT / name).exists():
                missing.setdefault(str(document.relative_to(ROOT)), []).append(name)
    assert not missing
