"""The rows of the table that a GPU has goals of its own for: 1 to 4, 7 to 9 and 14.

`python -m benchmarks.on_gpu`, on a machine with a GPU. Two Llamas of random weights, one of the
shape of SmolLM2-135M and one of 1.1 billion weights; passes in bfloat16 by autocast on both sides,
decoding in float32. The device's own peaks of products and copies stand first: they are what
row 14 is a share of. Sizes are a parameter, so that tests run the same code on a CPU.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from transformers import LlamaConfig

from benchmarks import decoding, head, peaks
from benchmarks.paired import Figure, compare, control_of, show, spent_on
from benchmarks.random_rows import answers, clean
from benchmarks.step_cost import Trained, random_policy
from seqmatch.decoding.graphed_reader import SWITCH
from seqmatch.gradients import accumulate_gradients
from seqmatch.objectives import SFTConfig
from seqmatch.pass_mode import PassMode
from seqmatch.policy import Policy

HALF = PassMode(precision="bfloat16")


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how often."""

    product: int
    """Rows and columns of the matrices of the device's peak."""
    copy_bytes: int
    unembedding: tuple[int, int]
    """Vocabulary and hidden size."""
    num_states: int
    llamas: dict[str, LlamaConfig]
    """By what they are called; row 14 is of the last."""
    goals: dict[str, float]
    """Of row 7."""
    step: tuple[int, int]
    """Rows and positions of demonstrations."""
    decode: tuple[int, int, int]
    """Rows, tokens of a prompt, tokens appended."""
    long_row: int
    """Positions of each row of row 14."""
    rounds: int


FULL = Sizes(
    product=8192,
    copy_bytes=1 << 30,
    unembedding=head.SMOLLM2,
    num_states=8192,
    llamas={
        "SmolLM2-135M's shape": LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
        ),
        # 1.1 billion weights; with gradients and AdamW's moments in float32 17 GB.
        "a Llama of 1.1 billion weights": LlamaConfig(
            vocab_size=49_152,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            tie_word_embeddings=True,
            max_position_embeddings=4096,
        ),
    },
    goals={"SmolLM2-135M's shape": 0.2, "a Llama of 1.1 billion weights": 0.5},
    step=(8, 512),
    decode=(8, 64, 96),
    long_row=2048,
    rounds=5,
)


def figures(device: torch.device | None = None, sizes: Sizes = FULL) -> Iterator[Figure]:
    """Measures on a device, by default the GPU."""
    where = torch.device("cuda") if device is None else device
    yield from peaks.figures(where, sizes.product, sizes.copy_bytes)
    yield from of_head(where, sizes)
    for words, config in sizes.llamas.items():
        with _freed(where):
            yield step_cost(words, random_policy(config, where), sizes)
        with _freed(where):
            yield from of_decoding(words, random_policy(config, where), sizes)
    with _freed(where):
        yield utilisation(random_policy([*sizes.llamas.values()][-1], where), sizes)


def of_head(device: torch.device, sizes: Sizes) -> Iterator[Figure]:
    """Rows 1 to 3, in bfloat16."""
    vocab, hidden_size = sizes.unembedding
    for trains in (False, True):
        case = head.Case.of(sizes.unembedding, sizes.num_states, trains=trains).to(
            device, torch.bfloat16
        )
        words = (
            f"{sizes.num_states:,} states, vocabulary {vocab:,}, hidden {hidden_size:,}, "
            f"{'trained' if trains else 'frozen'}, bfloat16"
        )
        exact = case.to(device, torch.float64).part(head.CHECKED)
        wanted = head.loss_and_gradients(exact, head.full_logits)
        part = case.part(head.CHECKED)
        errors = {
            name: head.off_by(head.loss_and_gradients(part, head.VARIANTS[name]), wanted)
            for name in ("ours", "full")
        }
        equality = f"loss and gradients of {head.CHECKED} states, off by {errors['ours']:.0e}"
        yield Figure(
            "3",
            f"error of loss and gradients, {head.CHECKED} of {words}",
            f"{errors['ours']:.0e} (full logits {errors['full']:.0e})",
            "<= 1e-2 relative in bfloat16",
            errors["ours"] <= 1e-2,
            "it is the figure: against float64",
        )
        variants = {
            name: partial(head.loss_and_gradients, case, head.VARIANTS[name])
            for name in ("full", "ours")
        }
        ratios = compare(variants, "full", rounds=sizes.rounds)
        yield Figure(
            "2",
            f"time of the head, {words}",
            f"{ratios['ours']} of full logits",
            "<= 0.80",
            ratios["ours"].median <= 0.8,
            equality,
            control_of(ratios),
            ratios["ours"].is_clear_of(0.8),
        )
        if device.type == "cuda":
            taken = {name: _peak(device, work) for name, work in variants.items()}
            less = taken["full"] / taken["ours"]
            yield Figure(
                "1",
                f"peak memory of the head, {words}",
                f"{less:.0f}x less: {taken['ours'] / 1e6:,.0f} MB against "
                f"{taken['full'] / 1e6:,.0f} MB",
                ">= 10x less",
                less >= 10.0,
                equality,
            )


def step_cost(words: str, policy: Policy, sizes: Sizes) -> Figure:
    """Row 4."""
    num_rows, num_positions = sizes.step
    trained = Trained.with_policy(policy.train(), num_rows, num_positions)
    error = trained.off_by()
    policy.set_pass_mode(HALF)

    def baseline() -> None:
        with torch.autocast(policy.device.type, torch.bfloat16):
            loss = trained.transformers_loss()
        torch.autograd.backward(loss)
        trained.apply(loss.item())

    steps: dict[str, Callable[[], object]] = {
        "transformers": baseline,
        "sequence_match": trained.sequence_match_step,
    }
    ratios = compare(steps, "transformers", rounds=sizes.rounds)
    return Figure(
        "4",
        f"SequenceMatch step without sampling, {words}, {num_rows} x {num_positions}, bfloat16",
        f"{ratios['sequence_match']} of transformers' own loss",
        "<= 2.10",
        ratios["sequence_match"].median <= 2.1,
        f"nats per token of ours and transformers' in float32, off by {error:.0e}",
        control_of(ratios),
        ratios["sequence_match"].is_clear_of(2.1),
    )


def of_decoding(words: str, policy: Policy, sizes: Sizes) -> Iterator[Figure]:
    """Rows 7 to 9, steps as plain launches and as CUDA graphs."""
    num_rows, prompt_length, num_appended = sizes.decode
    case = decoding.Case(f"{words}, {num_rows} rows", policy.eval(), *sizes.decode)
    yield decoding.exactness(
        decoding.Case(case.words, policy, num_rows, prompt_length, min(num_appended, 16))
    )
    for graphs in ("0", "1"):
        with _variable(SWITCH, graphs):
            named = case.named(f"{case.words}, {'CUDA graphs' if graphs == '1' else 'launches'}")
            yield decoding.beside_transformers(named, sizes.goals[words], 0.1, sizes.rounds)
            yield decoding.cost_of_deletions(named, sizes.rounds)


def utilisation(policy: Policy, sizes: Sizes) -> Figure:
    """Row 14: full fine-tuning by the product's own step, as a share of the measured products."""
    device, length = policy.device, sizes.long_row
    trained = Trained.with_policy(policy.train(), 1, length)
    error = trained.off_by()
    policy.set_pass_mode(HALF)
    rows = [clean(answer) for answer in answers(4, length, policy.space, seed=0)]

    def step() -> None:
        found = accumulate_gradients(policy, SFTConfig(), rows, [], beta=1.0, max_positions=10**9)
        trained.apply(found.loss)

    for _ in range(2):
        step()
    seconds = statistics.median(spent_on(step).wall for _ in range(sizes.rounds))
    rate = len(rows) * length * flops_per_token(policy, length) / seconds
    share = rate / peaks.products_per_second(device, torch.bfloat16, sizes.product)
    return Figure(
        "14",
        f"full fine-tuning, {_billions(policy)}, {len(rows)} rows of {length:,}, bfloat16",
        f"{len(rows) * length / seconds:,.0f} tokens a second, {share:.1%} of the products above",
        ">= 35 %",
        share >= 0.35,
        f"nats per token of ours and transformers' in float32, off by {error:.0e}",
    )


def flops_per_token(policy: Policy, length: int) -> float:
    """Operations of a training step: 6 N + 12 L H T, without a discount for causal attention.

    N are the weights of matrix products, the unembedding among them, L the layers, H the width of
    all heads together and T the length.
    """
    config = policy.lm_config
    tables = policy.lm.get_input_embeddings().weight
    num_weights = sum(each.numel() for each in policy.lm.parameters() if each.ndim > 1)
    if tables is not policy.head_weight:
        num_weights -= tables.numel()
    return float(6 * num_weights + 12 * config.num_hidden_layers * config.hidden_size * length)


def _billions(policy: Policy) -> str:
    return f"{sum(each.numel() for each in policy.lm.parameters()) / 1e9:.2f} billion weights"


def _peak(device: torch.device, work: Callable[[], object]) -> int:
    """What some work holds at most above what is held before it."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


@contextmanager
def _freed(device: torch.device) -> Iterator[None]:
    """Gives a GPU's memory back when what used it is gone."""
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """Sets a variable of the environment for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def main() -> int:
    """Prints the rows."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here; `make bench` measures the rows that a CPU has goals for")
        return 1
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
