"""Choosing actions from logits beside `torch.multinomial` and transformers' processors.

`python -m benchmarks.sampling`: row 10 of the table, on random logits of a large vocabulary.
"""

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from benchmarks.paired import Figure, compare, control_of, show
from seqmatch.decoding.sampling import choose_by_uniform

VOCABULARY = 49_152
SPREAD = 3.0
"""Standard deviation of the logits: a distribution about as wide as a language model's."""

STEPS = 8
"""Calls that are timed together."""


def by_multinomial(logits: Tensor) -> Tensor:
    """As transformers' `generate` samples."""
    return torch.multinomial(logits.softmax(dim=1), num_samples=1)[:, 0]


def by_processors(logits: Tensor) -> Tensor:
    """The same after transformers' top-k, top-p and min-p."""
    ids = torch.zeros(len(logits), 1, dtype=torch.long)
    for processor in (TopKLogitsWarper(50), TopPLogitsWarper(0.9), MinPLogitsWarper(0.05)):
        logits = processor(ids, logits)
    return by_multinomial(logits)


def by_top_p(logits: Tensor) -> Tensor:
    """The same after transformers' top-p alone, which sorts the vocabulary."""
    ids = torch.zeros(len(logits), 1, dtype=torch.long)
    return by_multinomial(TopPLogitsWarper(0.9)(ids, logits))


def fit(num_draws: int = 20_000) -> float:
    """The p-value of a chi-square test of our draws from one row against its probabilities.

    The likeliest 50 actions, and all others together.
    """
    logits = _logits(1)
    numbers = torch.from_numpy(np.random.default_rng(5).random(num_draws))
    chosen = torch.cat(
        [
            choose_by_uniform(logits.expand(len(part), -1), part)
            for part in torch.split(numbers, 500)
        ]
    )
    p = logits[0].double().softmax(0)
    likeliest = p.topk(50).indices
    seen = torch.bincount(chosen, minlength=VOCABULARY)[likeliest].double().numpy()
    expected = (p[likeliest] * num_draws).numpy()
    return float(
        stats.chisquare(
            [*seen, num_draws - seen.sum()], [*expected, num_draws - expected.sum()]
        ).pvalue
    )


def figures() -> Iterator[Figure]:
    """Measures batches of 8 and 32 rows, and what restricts sampling."""
    p_value = fit()
    for num_rows in (8, 32):
        yield _figure(f"sampling, {num_rows} rows", num_rows, by_multinomial, {}, 10.0, p_value)
    yield _figure("top-p 0.9, 8 rows", 8, by_top_p, {"top_p": 0.9}, None, p_value)
    all_three = {"top_k": 50, "top_p": 0.9, "min_p": 0.05}
    yield _figure("top-k, top-p and min-p, 8 rows", 8, by_processors, all_three, None, p_value)


def _figure(
    words: str,
    num_rows: int,
    baseline: Callable[[Tensor], Tensor],
    restrictions: dict[str, float],
    goal: float | None,
    p_value: float,
) -> Figure:
    logits = _logits(num_rows)
    numbers = torch.from_numpy(np.random.default_rng(1).random(num_rows))
    timed: dict[str, Callable[[], object]] = {
        "transformers": lambda: [baseline(logits) for _ in range(STEPS)],
        "ours": lambda: [
            choose_by_uniform(logits, numbers, **restrictions)  # type: ignore[arg-type]
            for _ in range(STEPS)
        ],
    }
    ratios = compare(timed, "transformers", rounds=15)
    ours = ratios["ours"]
    return Figure(
        row="10",
        what=f"{words}, V {VOCABULARY:,}",
        measured=f"{ours} of multinomial's time, {1 / ours.median:.0f} times faster",
        goal="no goal" if goal is None else f">= {goal:.0f} times",
        is_met=None if goal is None else 1 / ours.median >= goal,
        is_clear=goal is None or ours.is_clear_of(1 / goal),
        equality=f"chi-square test of 20,000 unrestricted draws: p = {p_value:.2f}",
        control=control_of(ratios),
    )


def _logits(num_rows: int) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(num_rows, VOCABULARY)) * SPREAD, dtype=torch.float32)


def main() -> int:
    """Prints the rows."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
