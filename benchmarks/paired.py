"""Side-by-side measurement: paired ratios with an interval and an A/A control.

Variants run interleaved, in an order that rotates, so that what else the machine does falls on all
of them. A ratio is the median over rounds of this round's time over the baseline's of the same
round; its interval is a 95 % bootstrap over rounds. The baseline runs twice in each round: the
ratio of the two is the A/A control. Where it leaves [0.95, 1.05] all is measured again, and a
figure that is still so is withheld. Times are CPU seconds of this process (wall seconds on a GPU,
synchronised).
"""

import gc
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

CONTROL = "baseline again"
TRUSTED = (0.95, 1.05)
TRIES = 3
"""Times that a noisy comparison is measured."""


@dataclass(frozen=True)
class Ratio:
    """One variant's time over the baseline's."""

    median: float
    low: float
    high: float
    """95 % interval of the median."""
    seconds: float
    """Median time of the variant itself."""

    def is_clear_of(self, limit: float) -> bool:
        """Tells whether the whole interval is on one side of a limit."""
        return not self.low <= limit <= self.high

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Spent:
    """What one call took, in seconds."""

    cpu: float
    """Of this process, all its threads together."""
    wall: float

    @property
    def counted(self) -> float:
        """The one that a figure is about: the wall's where a GPU works, else the CPU's."""
        return self.wall if torch.cuda.is_available() else self.cpu


@dataclass(frozen=True)
class Figure:
    """One row of the table of docs/performance.md."""

    row: str
    """Of the target table, for example "2"."""
    what: str
    measured: str
    goal: str
    is_met: bool | None
    """None where there is no goal for this machine."""
    equality: str
    """What was checked to be equal in the same run, and how far it was off."""
    control: float | None = None
    """The A/A control; None where nothing was timed."""
    is_clear: bool = True
    """False where the goal lies within the interval of what was measured."""

    @property
    def is_trusted(self) -> bool:
        """False where the machine was too noisy for this figure."""
        return self.control is None or _is_trusted(self.control)

    def line(self) -> str:
        """The row in Markdown."""
        verdict = {True: "met", False: "**missed**", None: "no goal here"}[self.is_met]
        if not self.is_clear and self.is_met is not None:
            verdict += ", within noise"
        measured, control = self.measured, "" if self.control is None else f"{self.control:.2f}"
        if not self.is_trusted:
            measured, verdict = "withheld", "too noisy to say"
        cells = (self.row, self.what, measured, self.goal, verdict, control, self.equality)
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| row | what | measured | goal | verdict | A/A | checked equal in the same run |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def compare(
    variants: Mapping[str, Callable[[], object]],
    baseline: str,
    *,
    rounds: int = 9,
    warm_up: int = 2,
    seed: int = 0,
) -> dict[str, Ratio]:
    """Times variants side by side; returns each one's ratio to the baseline.

    Args:
        variants: What is timed, by name; each call does the same work.
        baseline: The name of the denominator. It is also timed a second time, as `CONTROL`.
        rounds: Paired repetitions, at least 3.
        warm_up: Calls of each variant that are not counted.
        seed: Of the bootstrap.
    """
    for _ in range(TRIES):
        found = measure(variants, baseline, rounds=rounds, warm_up=warm_up)
        ratios = ratios_by(found, baseline, seed=seed)
        if _is_trusted(control_of(ratios)):
            break
    return ratios


def measure(
    variants: Mapping[str, Callable[[], object]], baseline: str, *, rounds: int, warm_up: int
) -> dict[str, list[Spent]]:
    """Times variants side by side; returns what each took in each round.

    Arguments are those of `compare`; the baseline's second time in each round is at `CONTROL`.
    """
    timed = {**variants, CONTROL: variants[baseline]}
    names = list(timed)
    for _ in range(warm_up):
        for name in names:
            timed[name]()
    found: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(spent_on(timed[name]))
    return found


def ratios_by(
    found: Mapping[str, Sequence[Spent]],
    baseline: str,
    clock: Literal["cpu", "wall", "counted"] = "counted",
    *,
    seed: int = 0,
) -> dict[str, Ratio]:
    """Returns each variant's ratio to the baseline by one clock, from what `measure` returned."""
    seconds = {name: [getattr(each, clock) for each in spent] for name, spent in found.items()}
    return ratios_of(seconds, baseline, seed=seed)


def ratios_of(
    seconds: Mapping[str, Sequence[float] | NDArray[np.float64]], baseline: str, *, seed: int = 0
) -> dict[str, Ratio]:
    """Returns each variant's ratio to the baseline from seconds by round."""
    rng = np.random.default_rng(seed)
    return {
        name: _ratio(np.asarray(each), np.asarray(seconds[baseline]), rng)
        for name, each in seconds.items()
    }


def spent_on(work: Callable[[], object]) -> Spent:
    """Returns what a call takes; no garbage is collected meanwhile."""
    on_gpu = torch.cuda.is_available()
    gc.collect()
    gc.disable()
    try:
        if on_gpu:
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    finally:
        gc.enable()
    return Spent(cpu, wall)


def control_of(ratios: Mapping[str, Ratio]) -> float:
    """Returns the A/A control of a comparison."""
    return ratios[CONTROL].median


def peak_bytes(module: str, *arguments: str) -> int:
    """Runs a benchmark module in a process of its own and returns the integer that it prints last.

    For figures of memory: the peak of a process never falls, so each variant has its own.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    return int(done.stdout.split()[-1])


def peak_resident_bytes() -> int:
    """Returns the most memory that this process has held.

    On Linux not `ru_maxrss`, which starts at the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)
    (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def machine() -> str:
    """Returns what the figures were measured on, in one line."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return (
        f"{os.cpu_count()} {platform.machine()} cores, {torch.get_num_threads()} torch thread(s)"
        f"{gpu}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )


def show(figures: Iterable[Figure]) -> list[Figure]:
    """Prints figures as they come, as a table; returns them."""
    print(machine(), "", HEADER, sep="\n", flush=True)
    found = []
    for figure in figures:
        print(figure.line(), flush=True)
        found.append(figure)
    return found


def _is_trusted(control: float) -> bool:
    return TRUSTED[0] <= control <= TRUSTED[1]


def _ratio(
    own: NDArray[np.float64], baseline: NDArray[np.float64], rng: np.random.Generator
) -> Ratio:
    ratios = own / baseline
    drawn = rng.choice(ratios, size=(2000, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return Ratio(float(np.median(ratios)), float(low), float(high), float(np.median(own)))
