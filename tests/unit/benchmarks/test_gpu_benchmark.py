"""The rows for a GPU, at a size that a CPU computes: the same code on another device."""

import gc
from collections.abc import Iterator

import pytest
import torch
from transformers import LlamaConfig

from benchmarks import on_gpu, peaks
from benchmarks.step_cost import random_policy

LLAMA = LlamaConfig(
    vocab_size=300,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
SMALL = on_gpu.Sizes(
    product=64,
    copy_bytes=1 << 16,
    unembedding=(300, 16),
    num_states=160,
    llamas={"tiny": LLAMA},
    goals={"tiny": 1.0},
    step=(2, 24),
    decode=(3, 5, 12),
    long_row=40,
    rounds=3,
)


@pytest.fixture(autouse=True)
def _little_to_collect() -> Iterator[None]:
    """Before each timed call garbage is collected: not among all that is loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_all_rows_are_computed_and_equal_what_they_are_compared_with() -> None:
    found = list(on_gpu.figures(torch.device("cpu"), SMALL))
    # Row 1 asks a GPU for its peak of memory.
    assert {figure.row for figure in found} == {"-", "2", "3", "4", "7", "8", "9", "14"}
    assert all(figure.is_met for figure in found if figure.row in "39")
    trained = [figure for figure in found if figure.row in ("4", "14")]
    assert all(float(figure.equality.rpartition(" ")[2]) < 1e-5 for figure in trained)
    assert all(
        figure.equality == "greedy answers equal: 100%" for figure in found if figure.row == "7"
    )


def test_operations_of_a_token_are_those_counted_by_hand() -> None:
    policy = random_policy(LLAMA, torch.device("cpu"))
    attention = 32 * 32 * 2 + 32 * 16 * 2
    feed_forward = 3 * 32 * 64
    weights = 2 * (attention + feed_forward) + 300 * 32
    assert on_gpu.flops_per_token(policy, 40) == 6 * weights + 12 * 2 * 32 * 40


def test_peaks_are_rates() -> None:
    cpu = torch.device("cpu")
    assert 1e6 < peaks.products_per_second(cpu, torch.float32, 64) < 1e15
    assert 1e6 < peaks.bytes_per_second(cpu, 1 << 16) < 1e15
    assert len(peaks.figures(cpu, 64, 1 << 16)) == 3


def test_it_says_so_where_there_is_no_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["on_gpu"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert on_gpu.main() == 1
    assert "no GPU here" in capsys.readouterr().out
