"""The unembedding's Q and V: peak memory, time and exactness against full logits.

`python -m benchmarks.head`: rows 1 to 3 of the table. Both compute the same loss from the same
hidden states, forward and backward; full logits are the plain way, `h W^T`, `gather` and
`logsumexp` by autograd. Memory is what a process of its own holds at most above weights, hidden
states and libraries. `--long` adds 512, 2,048 and 4,096 states, and the torch backend.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import psutil
import torch
from torch import Tensor

from benchmarks.paired import Figure, compare, control_of, peak_bytes, peak_resident_bytes, show
from seqmatch.soft_q import Backend, chosen_q_and_soft_value

QV = tuple[Tensor, Tensor]
SMOLLM2, LLAMA_3 = (49_152, 576), (128_256, 2_048)
"""Vocabulary and hidden size of SmolLM2-135M and Llama-3.2-1B."""

CHECKED = 128
"""States of a check of equality: more than fit one tile, so that the timed path is checked."""


@dataclass
class Case:
    """Random weights and states of one size; logits are about as wide as a model's."""

    weight: Tensor
    hidden: Tensor
    actions: Tensor

    @staticmethod
    def of(size: tuple[int, int], num_states: int, *, trains: bool, seed: int = 0) -> "Case":
        """Draws a case."""
        vocab, hidden_size = size
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(vocab, hidden_size).normal_(0.0, 2.0 / hidden_size**0.5)
        hidden = torch.empty(num_states, hidden_size).normal_(generator=generator)
        return Case(
            weight.requires_grad_(trains),
            hidden.requires_grad_(),
            torch.randint(0, vocab, (num_states,), generator=generator),
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> "Case":
        """Returns the case in another place and type."""
        weight, hidden = (
            each.detach().to(device, dtype).requires_grad_(each.requires_grad)
            for each in (self.weight, self.hidden)
        )
        return Case(weight, hidden, self.actions.to(device))

    def part(self, num_states: int) -> "Case":
        """Returns its first states alone."""
        hidden = self.hidden.detach()[:num_states].requires_grad_()
        return Case(self.weight, hidden, self.actions[:num_states])

    @property
    def trained(self) -> list[Tensor]:
        """What has a gradient."""
        return [x for x in (self.hidden, self.weight) if x.requires_grad]


def full_logits(case: Case) -> QV:
    """Q and V by way of all logits; sums over halves are float32, as in transformers' loss."""
    logits = case.hidden @ case.weight.t()
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.gather(1, case.actions.unsqueeze(1)).squeeze(1), logits.logsumexp(1)


def ours(case: Case, backend: Backend = "tiled") -> QV:
    """Q and V by the operator."""
    yes = torch.ones_like(case.actions, dtype=torch.bool)
    masks = (case.actions, ~yes, yes)
    return chosen_q_and_soft_value(case.hidden, case.weight, None, None, *masks, backend=backend)


VARIANTS: dict[str, Callable[[Case], QV]] = {
    "full": full_logits,
    "ours": ours,
    "torch": partial(ours, backend="torch"),
}


def loss_and_gradients(case: Case, variant: Callable[[Case], QV]) -> list[Tensor]:
    """One forward and backward pass of a loss that couples t with t + 1, as SequenceMatch's."""
    chosen_q, values = variant(case)
    td = chosen_q - 0.998 * values.roll(-1)
    loss = (values - chosen_q).mean() + 0.25 * td.square().mean()
    return [loss.detach(), *torch.autograd.grad(loss, case.trained)]


def off_by(got: list[Tensor], wanted: list[Tensor]) -> float:
    """The largest relative error, by norm, of the loss and the gradients."""
    return max(
        float((one.double() - other.double()).norm() / other.double().norm())
        for one, other in zip(got, wanted, strict=True)
    )


def figures(is_long: bool = False) -> Iterator[Figure]:
    """Measures rows 1 to 3."""
    yield from memory(is_long)
    yield exactness()
    plan = [(SMOLLM2, 1024, 1.0), (LLAMA_3, 128, 1.35)]
    if is_long:
        plan += [(SMOLLM2, num_states, 1.0) for num_states in (512, 2048, 4096)]
    for size, num_states, goal in plan:
        case = Case.of(size, num_states, trains=False)
        for trains in (False, True):
            case.weight.requires_grad_(trains)
            yield speed(case, goal, with_torch=is_long and num_states == 512)


def memory(is_long: bool) -> Iterator[Figure]:
    """Row 1: peaks of processes of their own at 2,048 states."""
    names = list(VARIANTS) if is_long else ["full", "ours"]
    for trains, goal in ((False, 30.0), (True, 12.0)):
        asked = ["--trains"] if trains else []
        peaks = {name: peak_bytes("benchmarks.head", "--peak", name, *asked) for name in names}
        ratio = peaks["full"] / peaks["ours"]
        case = Case.of(SMOLLM2, CHECKED, trains=trains)
        error = off_by(loss_and_gradients(case, ours), loss_and_gradients(case, full_logits))
        yield Figure(
            row="1",
            what=f"peak memory of the head, {_words(SMOLLM2, 2048, trains)}",
            measured=f"{ratio:.0f}x less: {_megabytes(peaks['ours'])} against "
            f"{_megabytes(peaks['full'])}"
            + (f"; torch backend {_megabytes(peaks['torch'])}" if is_long else ""),
            goal=f">= {goal:.0f}x less",
            is_met=ratio >= goal,
            equality=f"loss and gradients of {CHECKED} states, off by {error:.0e}",
        )


def exactness() -> Figure:
    """Row 3: against full logits in float64."""
    case = Case.of(SMOLLM2, CHECKED, trains=True)
    wanted = loss_and_gradients(case.to(case.weight.device, torch.float64), full_logits)
    errors = {name: off_by(loss_and_gradients(case, VARIANTS[name]), wanted) for name in VARIANTS}
    return Figure(
        row="3",
        what=f"error of loss and gradients, {_words(SMOLLM2, CHECKED, True)}",
        measured=f"{errors['ours']:.0e} (full logits {errors['full']:.0e}, torch backend "
        f"{errors['torch']:.0e})",
        goal="<= 1e-5 relative in float32",
        is_met=errors["ours"] <= 1e-5,
        equality="it is the figure: against float64",
    )


def speed(case: Case, goal: float, *, with_torch: bool) -> Figure:
    """Row 2: forward and backward, side by side; the check of equality warms up."""
    part = case.part(CHECKED)
    error = off_by(loss_and_gradients(part, ours), loss_and_gradients(part, full_logits))
    names = list(VARIANTS) if with_torch else ["full", "ours"]
    variants = {name: partial(loss_and_gradients, case, VARIANTS[name]) for name in names}
    ratios = compare(variants, "full", rounds=3, warm_up=0)
    (vocab, hidden_size), num_states = case.weight.shape, len(case.hidden)
    trains = case.weight.requires_grad
    others = f"; torch backend {ratios['torch']}" if "torch" in ratios else ""
    return Figure(
        row="2",
        what=f"time of the head, {_words((vocab, hidden_size), num_states, trains)}",
        measured=f"{ratios['ours']} of full logits{others}",
        goal=f"<= {goal:.2f}",
        is_met=ratios["ours"].median <= goal,
        is_clear=ratios["ours"].is_clear_of(goal),
        equality=f"loss and gradients of {CHECKED} states, off by {error:.0e}",
        control=control_of(ratios),
    )


def peak_of(variant: str, trains: bool) -> int:
    """Returns the bytes that this process holds at most above what it held before the call."""
    small = Case.of((64, 8), 4, trains=trains)
    loss_and_gradients(small, VARIANTS[variant])  # loads what is loaded once
    case = Case.of(SMOLLM2, 2048, trains=trains)
    before = int(psutil.Process().memory_info().rss)
    loss_and_gradients(case, VARIANTS[variant])
    return peak_resident_bytes() - before


def _words(size: tuple[int, int], num_states: int, trains: bool) -> str:
    vocab, hidden_size = size
    which = "trained" if trains else "frozen"
    return f"{num_states:,} states, vocabulary {vocab:,}, hidden {hidden_size:,}, {which}"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def main() -> int:
    """Prints the rows, or the peak of one variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--peak", choices=VARIANTS, help="only the peak of this variant, in bytes")
    parser.add_argument("--trains", action="store_true", help="of the peak: a trained unembedding")
    parser.add_argument("--long", action="store_true", help="more states, and the torch backend")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.peak:
        print(peak_of(given.peak, given.trains))
    else:
        show(figures(given.long))
    return 0


if __name__ == "__main__":
    sys.exit(main())
