"""The target network: what it averages, what it gives, and that the policy stays as it was."""

import pytest
import torch

from seqmatch.errors import CheckpointError
from seqmatch.gradients import BatchLoss, accumulate_gradients
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.target_network import TargetNetwork, make_target
from seqmatch.types import Trajectory
from tests.tiny_models import policy_of, tiny_gpt2, tiny_llama

STOP, BACKSPACE = 10, 11
ROWS = [
    Trajectory((3, 4), (5, BACKSPACE, 5, 6, STOP), (9, BACKSPACE, 5, 6, STOP)),
    Trajectory((1,), (2, STOP), (2, STOP)),
]
CONFIG = SequenceMatchConfig(divergence="reverse_kl", target_decay=0.5)


def nudge(policy: Policy, seed: int = 0) -> None:
    """Changes every trained weight a little, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.trainable_parameters().values():
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator))


def gradients(policy: Policy, target: TargetNetwork | None, beta: float = 0.2) -> BatchLoss:
    policy.zero_grad()
    return accumulate_gradients(
        policy, CONFIG, ROWS, [], beta=beta, max_positions=1000, target=target
    )


def test_only_an_objective_with_a_decay_has_one() -> None:
    policy = policy_of(tiny_llama())

    assert make_target(policy, SFTConfig()) is None
    assert make_target(policy, SequenceMatchConfig()) is None
    found = make_target(policy, CONFIG)
    assert found is not None
    assert found.decay == 0.5


def test_it_averages_all_trained_weights_exponentially() -> None:
    policy = policy_of(tiny_llama())
    target = TargetNetwork(policy, 0.9)
    expected = {
        name: weight.detach().double() for name, weight in policy.trainable_parameters().items()
    }

    for seed in range(3):
        nudge(policy, seed)
        target.follow(policy)
        for name, weight in policy.trainable_parameters().items():
            expected[name] = 0.9 * expected[name] + 0.1 * weight.detach().double()

    found = target.tensors()
    assert found.keys() == expected.keys()
    assert "backspace_row" in found
    for name, average in expected.items():
        torch.testing.assert_close(found[name].double(), average, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("lm", [tiny_llama, tiny_gpt2])
def test_next_values_are_those_of_the_average(lm: type) -> None:
    """Another policy whose weights are the average gives the same; gpt2's head is tied."""
    policy, other = policy_of(lm()), policy_of(lm())
    target = TargetNetwork(policy, 0.9)
    nudge(policy)
    target.follow(policy)
    with torch.no_grad():
        for name, weight in other.trainable_parameters().items():
            weight.copy_(target.tensors()[name])
    batch = build_batch(ROWS, policy.space)

    found = target.next_values(policy, batch)

    assert torch.equal(found, other.state_action_values(batch).values[:, 1:].detach())
    assert not torch.equal(found, policy.state_action_values(batch).values[:, 1:].detach())
    assert not found.requires_grad


def test_the_policy_is_left_as_it_was() -> None:
    policy = policy_of(tiny_llama())
    target = TargetNetwork(policy, 0.9)
    nudge(policy)
    before = {name: (w, w.data_ptr(), w.detach().clone()) for name, w in policy.named_parameters()}
    batch = build_batch(ROWS, policy.space)

    target.next_values(policy, batch)

    for name, weight in policy.named_parameters():
        same, place, value = before[name]
        assert weight is same
        assert weight.data_ptr() == place
        assert torch.equal(weight, value)


def test_with_the_policys_own_weights_the_loss_is_the_same_and_the_gradient_is_not() -> None:
    policy = policy_of(tiny_llama())
    own = gradients(policy, None)
    free = {name: w.grad.clone() for name, w in policy.named_parameters() if w.grad is not None}

    found = gradients(policy, TargetNetwork(policy, 0.9))

    assert found.loss == pytest.approx(own.loss, rel=1e-6)
    assert found.terms["train/target_gap"] == 0.0
    assert "train/target_gap" not in own.terms
    weights = dict(policy.named_parameters())
    assert any(not torch.allclose(weights[name].grad, grad) for name, grad in free.items())  # type: ignore[arg-type]


def test_the_gradient_is_right_after_weights_were_exchanged() -> None:
    """Equal to that of a loss on next values computed beforehand, on another copy of the policy."""
    policy, copy = policy_of(tiny_llama()), policy_of(tiny_llama())
    target, its_target = TargetNetwork(policy, 0.5), TargetNetwork(copy, 0.5)
    for each, average in ((policy, target), (copy, its_target)):
        nudge(each)
        average.follow(each)

    once, again = gradients(policy, target), gradients(copy, its_target)
    assert once == again
    assert once.terms["train/target_gap"] > 0.0
    slopes = {name: w.grad for name, w in policy.trainable_parameters().items()}
    step = 1e-2
    weight = policy.trainable_parameters()["backspace_row"]
    direction = torch.nn.functional.normalize(torch.ones_like(weight), dim=0)
    sides = []
    for sign in (1.0, -1.0):
        with torch.no_grad():
            weight.add_(sign * step * direction)
        sides.append(gradients(policy, target).loss)
        with torch.no_grad():
            weight.sub_(sign * step * direction)
    slope = slopes["backspace_row"]
    assert slope is not None
    assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(float(slope @ direction), rel=5e-3)


def test_it_is_not_asked_during_pure_imitation() -> None:
    policy = policy_of(tiny_llama())
    target = TargetNetwork(policy, 0.5)
    nudge(policy)

    found = gradients(policy, target, beta=1.0)

    assert found == gradients(policy, None, beta=1.0)


def test_a_checkpoint_brings_it_back_bit_by_bit() -> None:
    policy = policy_of(tiny_llama())
    target = TargetNetwork(policy, 0.9)
    nudge(policy)
    target.follow(policy)

    restored = TargetNetwork(policy, 0.9)
    restored.load({name: tensor.clone() for name, tensor in target.tensors().items()}, "it")

    for name, tensor in target.tensors().items():
        assert torch.equal(tensor, restored.tensors()[name])
    with pytest.raises(CheckpointError, match="differ at"):
        restored.load({"other": torch.zeros(1)}, "it")
