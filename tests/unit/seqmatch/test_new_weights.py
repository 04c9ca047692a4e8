"""New weights come from the seed, and no generator of the process notices."""

import pytest
import torch

from seqmatch.config import AdapterConfig
from seqmatch.new_weights import seeded_weights
from seqmatch.policy import _with_new_lora
from tests.tiny_models import tiny_llama


def test_weights_are_those_of_the_seed_and_the_generator_goes_on() -> None:
    before = torch.random.get_rng_state()
    with seeded_weights(3):
        found = torch.randn(5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(3)
    assert torch.equal(found, torch.randn(5))


def test_generators_of_gpus_are_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.manual_seed` does, where there are GPUs."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(1)
    assert seeded == [1]
    with seeded_weights(2):
        torch.randn(1)
    assert seeded == [1]


def test_a_new_adapter_is_a_function_of_the_seed() -> None:
    def adapter(seed: int) -> dict[str, torch.Tensor]:
        config = AdapterConfig(kind="lora", rank=2, scaling=4)
        lm = _with_new_lora(tiny_llama(), config, "tiny", seed)
        return {name: p.detach() for name, p in lm.named_parameters() if "lora_A" in name}

    first, same, other = adapter(1), adapter(1), adapter(2)
    assert first
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
