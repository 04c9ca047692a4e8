"""The discriminator's network on what it sees of a policy."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqmatch.discriminators import (
    Discriminator,
    Form,
    PairFeatures,
    WeightedScores,
    at_stop,
    auc,
    binary_cross_entropy,
    bradley_terry_with_deviations,
    matched_pairs,
    pair_features,
    token_weights,
)
from seqmatch.errors import ConfigError
from seqmatch.intervals import mean_with_interval
from seqmatch.objectives import RolloutConfig
from seqmatch.policy import Policy
from seqmatch.rollouts import sample_rollouts
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory
from tests.tiny_models import policy_of, tiny_llama

POP, STOP = 11, 10
TRAJECTORIES = [
    Trajectory((1, 2), (3, 4, POP, 4, STOP), (3, 7, POP, 4, STOP)),
    Trajectory((5,), (6, 7, POP, POP, 8, STOP), (6, 7, POP, POP, 8, STOP)),
    Trajectory((9, 9, 9), (1, STOP), (1, STOP)),
]


@pytest.fixture(scope="module")
def policy() -> Policy:
    return policy_of(tiny_llama())


def discriminator_of(
    policy: Policy, *, form: Form = "logit", spectral: bool = False, deviation: bool = False
) -> Discriminator:
    """One whose last layer is not 0."""
    made = Discriminator.of(
        policy, form=form, has_spectral_norm=spectral, has_deviation=deviation, seed=1
    )
    if not spectral:
        with torch.no_grad():
            made.last.weight.normal_(generator=torch.Generator().manual_seed(2))
    return made.eval()


def scores_of(
    discriminator: Discriminator,
    policy: Policy,
    trajectories: Sequence[Trajectory] = TRAJECTORIES,
    construction: Literal["trie", "refeed"] = "trie",
) -> Tensor:
    batch = build_batch(trajectories, policy.space, construction=construction)
    values = policy.state_action_values(batch) if discriminator.form == "airl" else None
    h: Tensor = discriminator(pair_features(policy, batch, values=values))
    return h


def test_a_new_discriminator_is_zero_everywhere(policy: Policy) -> None:
    before = torch.random.get_rng_state()

    h = scores_of(Discriminator.of(policy), policy)

    assert h.shape == (3, 6)
    assert not h.any()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("construction", ["trie", "refeed"])
def test_scores_depend_on_state_and_action_alone(
    policy: Policy, construction: Literal["trie", "refeed"]
) -> None:
    """The states of row 0 are 12, 123, 1237, 123, 1234; each is given by a plain row as well."""
    found = scores_of(discriminator_of(policy), policy, TRAJECTORIES[:1], construction)[0]

    plain = scores_of(
        discriminator_of(policy), policy, [Trajectory((1, 2), (3, 4, STOP), (3, 4, STOP))]
    )[0]
    torch.testing.assert_close(found[[0, 3, 4]], plain, atol=1e-5, rtol=1e-5)
    # Row 0 asks for 4 in state 123 at time 1, where noise strikes, and again at time 3.
    torch.testing.assert_close(found[1], found[3], atol=1e-5, rtol=1e-5)
    assert len({round(float(each), 3) for each in found[[0, 1, 2, 4]].detach()}) == 4


def test_later_tokens_change_nothing(policy: Policy) -> None:
    one = Trajectory((1, 2), (3, 4, 5, STOP), (3, 4, 5, STOP))
    other = Trajectory((1, 2), (3, 4, 8, 8, 6, STOP), (3, 4, 8, 8, 6, STOP))

    first, second = (scores_of(discriminator_of(policy), policy, [row])[0] for row in (one, other))

    torch.testing.assert_close(first[:2], second[:2], atol=1e-6, rtol=1e-6)
    assert abs((first[2] - second[2]).item()) > 1e-3, "the first action that differs"


def test_padding_is_zero_and_rows_do_not_see_each_other(policy: Policy) -> None:
    discriminator = discriminator_of(policy)

    together = scores_of(discriminator, policy)
    reversed_rows = scores_of(discriminator, policy, TRAJECTORIES[::-1])

    for row, trajectory in enumerate(TRAJECTORIES):
        length = len(trajectory.labels)
        alone = scores_of(discriminator, policy, [trajectory])[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-5, rtol=1e-5)
        assert not together[row, length:].any()
    torch.testing.assert_close(reversed_rows.flip(0), together, atol=1e-5, rtol=1e-5)


def test_padding_has_no_gradient(policy: Policy) -> None:
    discriminator = discriminator_of(policy)
    batch = build_batch(TRAJECTORIES, policy.space)

    discriminator(pair_features(policy, batch))[~batch.is_action].sum().backward()

    assert all(not each.grad.any() for each in discriminator.parameters() if each.grad is not None)


def test_backspace_is_a_learnt_vector_of_its_own(policy: Policy) -> None:
    discriminator = discriminator_of(policy)
    with_backspace, without = TRAJECTORIES[1:2], TRAJECTORIES[2:]

    gradients = []
    for rows in (with_backspace, without):
        discriminator.zero_grad()
        scores_of(discriminator, policy, rows).sum().backward()  # type: ignore[no-untyped-call]
        assert discriminator.backspace.grad is not None
        gradients.append(bool(discriminator.backspace.grad.any()))

    assert gradients == [True, False]


@pytest.mark.parametrize("is_adapter", [False, True])
def test_the_policy_gets_no_gradient_and_keeps_its_switches(is_adapter: bool) -> None:
    lm = tiny_llama()
    if is_adapter:
        lm = get_peft_model(lm, LoraConfig(r=2, target_modules="all-linear"))
    policy = policy_of(lm)
    before = {name: each.requires_grad for name, each in policy.named_parameters()}
    batch = build_batch(TRAJECTORIES, policy.space)
    hidden = policy.slot_states(batch)
    values = policy.state_action_values(batch, hidden=hidden)
    discriminator = discriminator_of(policy, form="airl")

    features = pair_features(policy, batch, hidden=hidden, values=values)
    discriminator(features).sum().backward()

    assert features.log_probs is not None
    assert not any(
        each.requires_grad for each in (features.states, features.actions, features.log_probs)
    )
    assert all(each.grad is None for each in policy.parameters())
    assert all(each.grad is not None for each in discriminator.parameters())
    assert {name: each.requires_grad for name, each in policy.named_parameters()} == before
    torch.autograd.backward(values.chosen_q.sum())
    assert any(each.grad is not None for each in policy.parameters()), "its own graph is whole"


def test_one_pass_of_the_policy_serves_both(policy: Policy) -> None:
    batch = build_batch(TRAJECTORIES, policy.space)
    hidden = policy.slot_states(batch)

    shared = pair_features(policy, batch, hidden=hidden)
    values = policy.state_action_values(batch, hidden=hidden)

    assert torch.equal(shared.states, pair_features(policy, batch).states)
    assert torch.equal(values.values, policy.state_action_values(batch).values)


def test_airl_subtracts_the_policys_log_probability(policy: Policy) -> None:
    batch = build_batch(TRAJECTORIES, policy.space)
    values = policy.state_action_values(batch)

    h = scores_of(discriminator_of(policy, form="airl"), policy)

    g = scores_of(discriminator_of(policy), policy)
    log_probs = (values.chosen_q - values.values[:, :-1]).where(batch.is_action, 0.0)
    torch.testing.assert_close(h, g - log_probs)


def test_airl_without_log_probabilities_is_refused(policy: Policy) -> None:
    features = pair_features(policy, build_batch(TRAJECTORIES, policy.space))

    with pytest.raises(ConfigError, match="needs log pi"):
        discriminator_of(policy, form="airl")(features)


def test_deviations_come_from_a_second_output(policy: Policy) -> None:
    features = pair_features(policy, build_batch(TRAJECTORIES, policy.space))
    discriminator = discriminator_of(policy, deviation=True)

    h, log_v = discriminator.scores_and_deviations(features)

    assert torch.equal(h, discriminator(features))
    assert not log_v[~features.is_action].any()
    assert not torch.equal(h, log_v)
    loss = bradley_terry_with_deviations(
        matched_pairs(h[0, :2], h[1, :2]), matched_pairs(log_v[0, :2], log_v[1, :2])
    )
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    with pytest.raises(ConfigError, match="has_deviation"):
        discriminator_of(policy).scores_and_deviations(features)


def test_half_precision_states_are_scored_in_float32(policy: Policy) -> None:
    features = pair_features(policy, build_batch(TRAJECTORIES, policy.space))
    halved = replace(
        features, states=features.states.bfloat16(), actions=features.actions.bfloat16()
    )
    discriminator = discriminator_of(policy)

    h = discriminator(halved)

    assert h.dtype == torch.float32
    torch.testing.assert_close(h, discriminator(features), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("spectral", [False, True])
def test_a_checkpoint_gives_the_same_bits(policy: Policy, spectral: bool, tmp_path: Path) -> None:
    discriminator = discriminator_of(policy, spectral=spectral)
    discriminator.train()
    scores_of(discriminator, policy)
    save_file(discriminator.state_dict(), tmp_path / "discriminator.safetensors")

    again = Discriminator.of(policy, has_spectral_norm=spectral, seed=99)
    again.load_state_dict(load_file(tmp_path / "discriminator.safetensors"))

    for _ in range(2):  # spectral norm moves its estimate in each pass
        assert torch.equal(scores_of(discriminator, policy), scores_of(again, policy))


# ---- learning to tell two policies apart

PROMPTS = [(first, second) for first in range(8) for second in range(8)]
ROLLOUTS = RolloutConfig(temperature=1.0, max_new_tokens=6)


def rollouts_of(policy: Policy, seed: int) -> list[Trajectory]:
    return sample_rollouts(policy, PROMPTS, ROLLOUTS, seed=seed, step=0)


def both_sides(demonstrator: Policy, policy: Policy, seed: int) -> tuple[PairFeatures, list[slice]]:
    """One rollout a prompt of either policy, as `policy` sees them; and which rows are whose."""
    data, model = rollouts_of(demonstrator, 2 * seed), rollouts_of(policy, 2 * seed + 1)
    features = pair_features(policy, build_batch([*data, *model], policy.space))
    return features, [slice(0, len(data)), slice(len(data), None)]


def held_out_auc(seed: int, demonstrator: Policy, policy: Policy) -> float:
    """The AUC over whole answers that none of 60 updates has seen."""
    discriminator = Discriminator.of(policy, seed=seed)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=3e-3, betas=(0.0, 0.999))
    features, sides = both_sides(demonstrator, policy, 2 * seed)
    weights = [token_weights(features.is_action[rows], 0.9) for rows in sides]
    for _ in range(60):
        optimizer.zero_grad()
        h = discriminator(features)
        data, model = (WeightedScores(h[rows], w) for rows, w in zip(sides, weights, strict=True))
        binary_cross_entropy(data, model).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    fresh, sides = both_sides(demonstrator, policy, 2 * seed + 1)
    whole = [at_stop(discriminator(fresh)[rows], fresh.is_action[rows]) for rows in sides]
    even = [torch.full_like(each, 1 / len(each)) for each in whole]
    return auc(WeightedScores(whole[0], even[0]), WeightedScores(whole[1], even[1])).item()


def test_two_policies_are_told_apart_on_fresh_rollouts_and_one_from_itself_is_not() -> None:
    """Five seeds each; 95 % intervals by Student's t against chance, 1/2."""
    policy = policy_of(tiny_llama(seed=0), backspace=False)
    demonstrator = policy_of(tiny_llama(seed=1), backspace=False)

    apart = [held_out_auc(seed, demonstrator, policy) for seed in range(5)]
    same = [held_out_auc(seed, policy, policy) for seed in range(5)]

    mean, half = mean_with_interval(apart)
    assert half is not None
    assert mean - half > 0.6
    mean, half = mean_with_interval(same)
    assert half is not None
    assert abs(mean - 0.5) <= half
    assert mean + half < 0.6
