"""Eyes see the base model and leave the policy as it was."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model

from seqmatch.config import AdapterConfig
from seqmatch.lens import Answer, Eyes
from seqmatch.policy import Policy, load_policy
from tests.tiny_models import policy_of, tiny_llama
from tests.unit.seqmatch.lens.small_laws import STOP

ANSWERS = [
    Answer((1, 2), (3, 4, STOP), True, ""),
    Answer((5,), (STOP,), True, ""),
    Answer((1, 2, 3), (6, 7, 8, 9), False, ""),
]


def _lora_policy() -> Policy:
    """With an adapter that changes the logits, as after some training."""
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules="all-linear")
    wrapped: Any = get_peft_model(tiny_llama(), config)
    torch.manual_seed(3)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    return policy_of(wrapped)


def _parts(eyes: Eyes, max_positions: int = 10**6) -> tuple[torch.Tensor, ...]:
    found = eyes.features(ANSWERS, max_positions)
    return found.states, found.actions, found.is_action


def test_a_lora_policy_is_looked_through_with_its_adapter_off() -> None:
    policy = _lora_policy()
    eyes = Eyes.of(policy, models_dir=Path("unused"))
    base = Eyes.from_policy(policy_of(tiny_llama(), backspace=False))

    for seen, expected in zip(_parts(eyes), _parts(base), strict=True):
        assert torch.equal(seen, expected)
    trained = policy.hidden_states(torch.tensor([[1, 2, 3]]))
    with torch.no_grad():
        assert not torch.equal(trained, base.policy.hidden_states(torch.tensor([[1, 2, 3]])))


@pytest.mark.parametrize("is_frozen", [False, True])
def test_the_policy_stays_as_it_was(is_frozen: bool) -> None:
    policy = _lora_policy()
    policy.train()
    if is_frozen:
        policy.requires_grad_(False)
    before = {name: each.requires_grad for name, each in policy.named_parameters()}
    hidden = policy.hidden_states(torch.tensor([[1, 2, 3]]))

    Eyes(policy).features(ANSWERS, 10**6)

    assert {name: each.requires_grad for name, each in policy.named_parameters()} == before
    assert any(before.values()) is not is_frozen
    assert all(module.training for module in policy.modules())
    assert torch.equal(policy.hidden_states(torch.tensor([[1, 2, 3]])), hidden)


def test_a_policy_that_is_trained_whole_gets_a_base_of_its_own(tmp_path: Any) -> None:
    def of_seed(seed: int) -> Policy:
        return load_policy(
            "byte-llama-small",
            AdapterConfig(kind="full"),
            True,
            seed=seed,
            device="cpu",
            models_dir=tmp_path,
        )

    one, two = (Eyes.of(of_seed(seed), models_dir=tmp_path) for seed in (1, 2))

    for seen, expected in zip(_parts(one), _parts(two), strict=True):
        assert torch.equal(seen, expected)
    assert not any(parameter.requires_grad for parameter in one.policy.parameters())
    assert not one.policy.training


def test_small_passes_give_the_same_features() -> None:
    eyes = Eyes.from_policy(policy_of(tiny_llama(), backspace=False).double())

    for whole, cut in zip(_parts(eyes), _parts(eyes, 5), strict=True):
        assert torch.allclose(whole, cut, atol=1e-5)


def test_a_state_is_seen_by_its_own_hidden_state_and_the_mean_so_far() -> None:
    """Oracle: a plain pass over one answer."""
    policy = policy_of(tiny_llama(), backspace=False)
    found = Eyes.from_policy(policy).features(ANSWERS, 10**6)
    hidden = policy.hidden_states(torch.tensor([[1, 2, 3, 6, 7, 8]]))[0, 2:]

    def normed(vector: torch.Tensor) -> torch.Tensor:
        centred = vector - vector.mean()
        return centred / (centred.square().mean() + 1e-5).sqrt()

    for time, seen in enumerate(found.states[4:]):
        expected = torch.cat([normed(hidden[time]), normed(hidden[: time + 1].mean(dim=0))])
        assert torch.allclose(seen, expected, atol=1e-5)
