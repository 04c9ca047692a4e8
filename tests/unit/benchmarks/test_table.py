"""The table of all figures: what is kept when a module breaks off, and peaks of memory."""

import subprocess
import sys
import types
from collections.abc import Iterator

import pytest

from benchmarks import paired, table
from benchmarks.paired import Figure

MEASURED = Figure("2", "a speed", "0.50", "<= 1.00", True, "the sums", 1.0)


def _module(name: str, *, breaks: bool) -> types.ModuleType:
    def figures() -> Iterator[Figure]:
        yield MEASURED
        if breaks:
            raise RuntimeError("no room | for\nlogits")

    found = types.ModuleType(name)
    found.__dict__["figures"] = figures
    return found


def test_what_was_measured_is_kept_when_a_module_breaks_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, breaks in (("first", True), ("second", False)):
        whole = f"benchmarks.{name}"
        monkeypatch.setitem(sys.modules, whole, _module(whole, breaks=breaks))
    found = list(table.figures(["first", "second"]))
    assert [each.what for each in found] == ["a speed", "the rest of first", "a speed"]
    assert found[1].measured == "broken off: RuntimeError: no room / for logits"
    assert "in figures" in capsys.readouterr().err
    page = table.written(f"before {table.BEGIN} old {table.END} after", found)
    assert page.count("| a speed | 0.50 |") == 2
    assert "old" not in page


def test_a_process_does_not_begin_at_the_peak_of_the_one_that_started_it() -> None:
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    command = "from benchmarks.paired import peak_resident_bytes; print(peak_resident_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    del held
    own = int(done.stdout)
    assert 10_000_000 < own < paired.peak_resident_bytes() - 200_000_000
