"""The table of all figures: what is kept when a module breaks off, and peaks of memory."""

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace

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


@pytest.mark.parametrize(
    ("is_met", "interval", "control", "measured", "verdict"),
    [
        (True, (0.8, 0.9), 1.04, "0.85", "met"),
        (True, (0.8, 1.1), 1.0, "0.85", "met, within noise"),
        (False, (0.9, 1.1), 1.0, "0.85", "**missed**, within noise"),
        (False, (1.1, 1.2), None, "0.85", "**missed**"),
        (True, (0.8, 0.9), 1.06, "withheld", "too noisy to say"),
        (None, (0.8, 1.1), 1.0, "0.85", "no goal here"),
    ],
)
def test_a_row_says_no_more_than_its_interval_and_its_control(
    is_met: bool | None,
    interval: tuple[float, float],
    control: float | None,
    measured: str,
    verdict: str,
) -> None:
    ratio = paired.Ratio(0.85, *interval, 1.0)
    figure = replace(
        MEASURED,
        measured="0.85",
        is_met=is_met,
        is_clear=ratio.is_clear_of(1.0),
        control=control,
    )
    assert f"| {measured} | <= 1.00 | {verdict} |" in figure.line()


def test_a_noisy_comparison_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clock on which the second baseline is twice as slow in the first comparison."""
    asked: list[str] = []

    def spent(work: Callable[[], object]) -> paired.Spent:
        work()
        is_slow = len(asked) in (3, 5, 7)
        return paired.Spent(2.0 if is_slow else 1.0, 1.0)

    monkeypatch.setattr(paired, "spent_on", spent)
    variants: dict[str, Callable[[], object]] = {
        "plain": lambda: asked.append("plain"),
        "ours": lambda: asked.append("ours"),
    }
    ratios = paired.compare(variants, "plain", rounds=3, warm_up=0)
    assert len(asked) == 2 * 9, "twice three rounds of three calls"
    assert paired.control_of(ratios) == 1.0


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
