"""Steps of fixed shape in fixed memory decode as steps of any shape do.

A graph needs a GPU. Here its surrogate runs the recorded work again, in the same memory and of the
same shape as a graph would; what cannot be tried here is the recording itself.
"""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.decoding import graphed_reader
from seqmatch.decoding.fused_reader import FusedReader
from seqmatch.decoding.graphed_reader import GraphedReader, Recorded
from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.policy import Policy
from tests.tiny_models import policy_of, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1), (2, 2), (3, 1, 4)]
MAX_DEPTH = 90


class Surrogate:
    """Runs the work anew, and leaves the result where it was."""

    def __init__(self) -> None:
        self.num_recorded = 0

    def __call__(self, work: Recorded) -> Recorded:
        self.num_recorded += 1
        result = work().clone()

        def again() -> Tensor:
            with torch.inference_mode():
                return result.copy_(work())

        return again


def graphed(policy: Policy, num_rows: int, record: Callable[[Recorded], Recorded]) -> LivePrefixes:
    states = LivePrefixes(policy, num_rows=num_rows, longest_prompt=6, max_depth=MAX_DEPTH)
    states._reader = GraphedReader(states._reader, num_rows, states._capacity, record)
    return states


def walk(states: LivePrefixes, num_steps: int) -> list[Tensor]:
    """Hidden states after pushes, pops, ends and refills, of every row at every step."""
    rng = np.random.default_rng(0)
    found = []
    states.add(PROMPTS)
    for _ in range(num_steps):
        rows = np.arange(states.num_rows)
        states.push(rows, rng.integers(0, 11, size=len(rows)))
        found.append(states.current(rows).clone())
        states.pop(np.flatnonzero((rng.random(len(rows)) < 0.2) & (states.depth > 0)))
        if states.num_rows > 1 and rng.random() < 0.1:
            states.remove(np.array([int(rng.integers(states.num_rows))]))
            if rng.random() < 0.5:
                states.add([PROMPTS[int(rng.integers(5))]])
    return found


def test_padded_steps_give_the_same_hidden_states() -> None:
    policy, record = policy_of(tiny_llama()), Surrogate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = walk(graphed(policy, 5, record), 100)
    plain = LivePrefixes(policy, num_rows=5, longest_prompt=6, max_depth=MAX_DEPTH)
    for one, other in zip(found, walk(plain, 100), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert 2 <= record.num_recorded <= 8, "a graph for each shape, and few shapes"


def impossible(_work: Recorded) -> Recorded:
    raise RuntimeError("operation not permitted when stream is capturing")


def forgetful(work: Recorded) -> Recorded:
    return lambda: work() * 1.01


@pytest.mark.parametrize(
    ("record", "words"), [(impossible, "not permitted"), (forgetful, "off by 1e-02")]
)
def test_a_graph_that_cannot_be_made_or_differs_is_not_used(
    record: Callable[[Recorded], Recorded], words: str
) -> None:
    policy = policy_of(tiny_llama())
    with pytest.warns(UserWarning, match=f"without CUDA graphs.*{words}") as told:
        found = walk(graphed(policy, 5, record), 20)
    assert len(told) == 1
    plain = LivePrefixes(policy, num_rows=5, longest_prompt=6, max_depth=MAX_DEPTH)
    for one, other in zip(found, walk(plain, 20), strict=True):
        # What recording has read once more, padded, is rounded in another way.
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_they_are_made_on_request_and_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.delenv(graphed_reader.SWITCH, raising=False)
    assert not graphed_reader.is_wanted(gpu)
    monkeypatch.setenv(graphed_reader.SWITCH, "1")
    assert graphed_reader.is_wanted(gpu)
    assert not graphed_reader.is_wanted(torch.device("cpu"))
    states = LivePrefixes(policy_of(tiny_llama()), num_rows=1, longest_prompt=1, max_depth=1)
    assert type(states._reader) is FusedReader
