"""The discriminator beside a policy: what it compares, how it learns, what it leaves alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seqmatch.action_space import ActionSpace
from seqmatch.config import AdapterConfig
from seqmatch.corruption import clean_trajectory, corrupt
from seqmatch.discriminators.files import WEIGHTS, load_discriminator, save_discriminator
from seqmatch.discriminators.player import DiscriminatorPlayer, SeenPass, written_times
from seqmatch.errors import CheckpointError, ConfigError
from seqmatch.objectives import AdversarialConfig, CorruptionConfig
from seqmatch.policy import Policy, load_policy
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.single_pass import build_batch
from seqmatch.types import TokenizedDemonstration, Trajectory
from tests.tiny_models import policy_of, tiny_llama

SPACE = ActionSpace(11, 10, 10, None, True, frozenset({10}))
DEMOS = [TokenizedDemonstration((1, 2), (3, 4 + at % 3, 10), at) for at in range(12)]


def _demonstrated(rate: float = 0.0) -> list[Trajectory]:
    rng = np.random.default_rng(0)
    return [corrupt(demo, SPACE, CorruptionConfig(rate=rate), None, rng) for demo in DEMOS]


def _answers() -> list[Trajectory]:
    """Answers of another kind: longer, of other tokens, one that a limit ended."""
    paths = [((1, 2), (7, 8 - at % 2, 7, 10), (7, 8 - at % 2, 7, 10)) for at in range(11)]
    return [Trajectory(*path) for path in paths] + [Trajectory((1, 2), (7, 7), (7, 10))]


def _seen(policy: Policy, data: list[Trajectory], answers: list[Trajectory]) -> SeenPass:
    batch = build_batch([*data, *answers], policy.space)
    with torch.no_grad():
        hidden = policy.slot_states(batch)
        values = policy.state_action_values(batch, hidden=hidden)
    return SeenPass(data, batch, hidden, values)


def _some(
    policy: Policy,
    data: list[Trajectory],
    answers: list[Trajectory],
    rows: list[int],
    answer_rows: list[int],
) -> SeenPass:
    """A pass of these rows of a batch."""
    seen = _seen(policy, [data[at] for at in rows], [answers[at] for at in answer_rows])
    return replace(seen, places=[*rows, *(len(data) + at for at in answer_rows)])


def _objective(**settings: Any) -> AdversarialConfig:
    discriminator = {"learning_rate": 1e-2, **settings.pop("discriminator", {})}
    return AdversarialConfig.model_validate({"discriminator": discriminator, **settings})


def _player(policy: Policy, **settings: Any) -> DiscriminatorPlayer:
    return DiscriminatorPlayer(policy, _objective(**settings), seed=3)


@pytest.fixture
def policy() -> Policy:
    return policy_of(tiny_llama())


@pytest.mark.parametrize("burst", [1, 3])
def test_what_is_compared_are_the_demonstrations_as_written(burst: int) -> None:
    """Mistakes that were inserted, and the backspaces that undo them, are left out."""
    config = CorruptionConfig(rate=0.5, burst=burst)
    rng = np.random.default_rng(1)
    cut = TokenizedDemonstration((1,), (3, 4), 99)  # a limit forces its stop token
    demos = [*DEMOS, cut] * 5
    noisy = [corrupt(demo, SPACE, config, None, rng) for demo in demos]
    assert any(
        len(row.labels) > len(demo.completion_ids) for row, demo in zip(noisy, demos, strict=True)
    )

    times, exists = written_times(noisy, SPACE.backspace_id)

    for row, demo, at, here in zip(noisy, demos, times, exists, strict=True):
        clean = clean_trajectory(demo, SPACE)
        kept = at[here].tolist()
        assert [row.labels[time] for time in kept] == list(clean.labels)
        assert [row.pushes[time] for time in kept] == list(clean.pushes)


LOSSES = [
    {},
    {"discriminator": {"form": "airl"}},
    {"discriminator": {"spectral_norm": True}},
    {"discriminator": {"gradient_penalty": 1.0}},
    {"discriminator": {"r1_penalty": 1.0}},
    {"discriminator": {"loss": "variational"}, "divergence": "jensen_shannon"},
    {"level": "increments"},
    {"level": "trajectory"},
    {"level": "trajectory", "discriminator": {"loss": "bradley_terry"}},
    {"level": "trajectory", "discriminator": {"loss": "bradley_terry_deviations"}},
]


@pytest.mark.parametrize("settings", LOSSES)
def test_every_kind_learns_to_tell_them_apart(policy: Policy, settings: dict[str, Any]) -> None:
    player = _player(policy, **settings)
    seen = [_seen(policy, _demonstrated(0.3), _answers())]
    weights = [weight.clone() for weight in policy.parameters()]

    told = [player.learn(policy, seen, [], step) for step in range(80)]

    assert told[-1]["discriminator/auc"] > 0.9
    assert told[-1]["discriminator/score_data"] > told[-1]["discriminator/score_rollouts"]
    assert told[-1]["discriminator/loss"] < told[0]["discriminator/loss"]
    assert all(map(torch.equal, weights, policy.parameters()))
    assert all(weight.grad is None for weight in policy.parameters())


def test_where_both_sides_are_alike_h_stays_near_0(policy: Policy) -> None:
    clean = [clean_trajectory(demo, SPACE) for demo in DEMOS]
    player = _player(policy)
    seen = [_seen(policy, _demonstrated(0.4), clean)]

    told = [player.learn(policy, seen, [], step) for step in range(60)]

    # Not exactly 0: Adam gives even a gradient of rounding errors the size of its own scale.
    assert told[-1]["discriminator/auc"] == pytest.approx(0.5, abs=1e-3)
    (h,) = player.judge(policy, seen)
    assert h.abs().max() < 0.1


def test_a_batch_in_several_passes_teaches_the_same(policy: Policy) -> None:
    """Whatever rows stand in which pass: the network reads the batch in its own order."""
    data, answers = _demonstrated(0.3), _answers()
    whole, parted = _player(policy), _player(policy)
    passes = [
        _some(policy, data, answers, [1, 3, 4], [0, 2, 5, 9]),
        _some(policy, data, answers, [0, 2, *range(5, 12)], [1, 3, 4, 6, 7, 8, 10, 11]),
    ]

    for step in range(5):
        together = whole.learn(policy, [_seen(policy, data, answers)], [], step)
        apart = parted.learn(policy, passes, [], step)
        # States of passes of other lengths differ in the last bit; Adam lets that grow.
        assert apart == pytest.approx(together, abs=1e-6 if step == 0 else 2e-3)

    (h,), parts = whole.judge(policy, [_seen(policy, data, answers)]), parted.judge(policy, passes)
    for rows, part in zip(([0, 2, 5, 9], [1, 3, 4, 6, 7, 8, 10, 11]), parts, strict=True):
        torch.testing.assert_close(part, h[rows, : part.shape[1]], rtol=0.0, atol=2e-3)


def test_above_the_gate_nothing_is_learnt(policy: Policy) -> None:
    player = _player(policy, discriminator={"gate": 0.9, "updates": 2})
    seen = [_seen(policy, _demonstrated(), _answers())]
    told = [player.learn(policy, seen, [], step) for step in range(60)]
    assert told[0]["discriminator/updates"] == 1.0
    assert told[-1]["discriminator/updates"] < 1.0
    assert (
        told[-1]["discriminator/accuracy_data"] + told[-1]["discriminator/accuracy_rollouts"] > 1.8
    )


def test_older_answers_count_as_the_policys_own(policy: Policy) -> None:
    """Seen in the history alone, an answer is still learnt to be the policy's."""
    player = _player(policy)
    clean = [clean_trajectory(demo, SPACE) for demo in DEMOS]
    seen, older = _seen(policy, clean, clean), _seen(policy, [], _answers())
    for step in range(60):
        player.learn(policy, [seen], [older], step)
    (of_older,), (of_now,) = player.judge(policy, [older]), player.judge(policy, [seen])
    assert of_older[:, 0].max() < of_now[:, 0].min() - 1.0


def test_the_offset_of_pairs_makes_h_a_log_ratio(policy: Policy) -> None:
    """E_model[e^h] is 1 at the log ratio; the demonstrations are a part of the answers."""
    player = _player(
        policy, level="trajectory", discriminator={"loss": "bradley_terry", "gate": 1.0}
    )
    clean = [clean_trajectory(demo, SPACE) for demo in DEMOS]
    seen = [_seen(policy, clean, [*clean, *_answers()])]
    for step in range(300):
        player.learn(policy, seen, [], step)
    (h,) = player.judge(policy, seen)
    at_end = h.gather(1, seen[0].batch.num_actions[len(clean) :, None] - 1)
    assert at_end.exp().mean() == pytest.approx(1.0, abs=0.05)
    # Half of the answers are demonstrations: their ratio is 2, or log 2 in nats.
    assert at_end[: len(clean)].mean() == pytest.approx(np.log(2.0), abs=0.1)


# ---- a second adapter


@pytest.fixture
def lora_policy(tmp_path: Path) -> Policy:
    folder = tmp_path / "base"
    tiny_llama(vocab_size=259).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    adapter = AdapterConfig(kind="lora", rank=2, scaling=4)
    found = load_policy(
        str(folder), adapter, True, seed=1, device="cpu", models_dir=tmp_path, allowed=[str(folder)]
    )
    with torch.no_grad():
        for weight in found.trainable_parameters().values():
            weight.add_(0.1 * torch.randn_like(weight))
    return found


def _counting(sizes: list[int]) -> Callable[[Tensor], Tensor]:
    def packed(kept: Tensor) -> Tensor:
        sizes.append(kept.nbytes)
        return kept

    return packed


def _moments(player: DiscriminatorPlayer) -> list[Tensor]:
    """Adam's first moments: a tenth of the gradient of the first update."""
    return [state["exp_avg"] for state in player.optimizer.state.values()]


def _bytes(policy: Policy) -> tuple[list[Trajectory], list[Trajectory]]:
    stop = policy.space.eos_id
    demos = [TokenizedDemonstration((65, 66), (67, 68 + at % 3, stop), at) for at in range(8)]
    answers = [
        Trajectory((65, 66), (90, 91 + at % 3, stop), (90, 91 + at % 3, stop)) for at in range(8)
    ]
    return [clean_trajectory(demo, policy.space) for demo in demos], answers


def test_a_second_adapter_learns_and_leaves_the_policy_alone(lora_policy: Policy) -> None:
    policy = lora_policy
    before = {name: weight.detach().clone() for name, weight in policy.named_parameters()}
    switches = {name: weight.requires_grad for name, weight in policy.named_parameters()}
    data, answers = _bytes(policy)
    player = _player(policy, discriminator={"backbone": "adapter"})
    backbone = player.discriminator.backbone
    assert backbone is not None
    seen = [_seen(policy, data, answers)]
    at_first = {name: value.clone() for name, value in player.discriminator.tensors().items()}

    told = [player.learn(policy, seen, [], step) for step in range(40)]

    assert told[-1]["discriminator/auc"] > 0.99
    after = player.discriminator.tensors()
    assert any(not torch.equal(at_first[n], after[n]) for n in after if n.startswith("adapter."))
    for name, weight in policy.named_parameters():
        assert torch.equal(before[name], weight), name
        assert weight.requires_grad == switches[name]
        assert weight.grad is None
    own = {id(weight) for weight in policy.parameters() if not weight.requires_grad}
    shared = {id(weight) for weight in backbone.lm.parameters() if not weight.requires_grad}
    assert shared == own  # the frozen weights are the very same tensors


def test_a_second_adapter_starts_as_the_base_model(lora_policy: Policy) -> None:
    player = _player(lora_policy, discriminator={"backbone": "adapter"})
    backbone = player.discriminator.backbone
    assert backbone is not None
    ids = torch.tensor([[65, 66, 67]])
    with lora_policy.lm.disable_adapter(), torch.no_grad():
        plain: Tensor = lora_policy.hidden_states(ids)
    torch.testing.assert_close(backbone.hidden_states(ids), plain)


def test_a_second_adapter_in_passes_learns_the_same_and_holds_less(lora_policy: Policy) -> None:
    """Its states are computed again in the backward pass, so that only they are held."""
    data, answers = _bytes(lora_policy)
    whole = [_seen(lora_policy, data, answers)]
    parted = [
        _some(lora_policy, data, answers, list(range(start, end)), list(range(start, end)))
        for start, end in ((0, 4), (4, 8))
    ]
    settings = {"backbone": "adapter", "learning_rate": 1e-3}
    one, two = (_player(lora_policy, discriminator=settings) for _ in range(2))

    told = one.learn(lora_policy, whole, [], 0), two.learn(lora_policy, parted, [], 0)
    assert told[1] == pytest.approx(told[0], rel=1e-3, abs=1e-5)
    for mine, theirs in zip(_moments(one), _moments(two), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-6)

    held = []
    for is_recomputed in (False, True):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(_counting(sizes), lambda kept: kept):
            features = one.discriminator.read(
                lora_policy, whole[0].batch, None, None, is_recomputed=is_recomputed
            )
        held.append(sum(sizes))
        assert features.states.requires_grad
    assert held[1] < held[0] / 5


def test_a_second_adapter_needs_a_frozen_base(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="nothing is frozen"):
        _player(policy, discriminator={"backbone": "adapter"})


# ---- files


@pytest.mark.parametrize("backbone", ["shared", "adapter"])
def test_files_bring_back_the_same_scores(
    lora_policy: Policy, tmp_path: Path, backbone: str
) -> None:
    player = _player(lora_policy, discriminator={"backbone": backbone, "spectral_norm": True})
    data, answers = _bytes(lora_policy)
    for step in range(5):
        player.learn(lora_policy, [_seen(lora_policy, data, answers)], [], step)
    player.discriminator.offset = 0.25

    save_discriminator(player.discriminator, tmp_path)
    found = load_discriminator(tmp_path, lora_policy)

    assert found is not None
    for mine, theirs in zip(
        player.discriminator.scores(lora_policy, answers, 1000),
        found.scores(lora_policy, answers, 7),  # in passes of one row
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)
    (tmp_path / WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no readable discriminator"):
        load_discriminator(tmp_path, lora_policy)
    assert load_discriminator(tmp_path / "elsewhere", lora_policy) is None


def test_scores_are_those_of_the_batch(policy: Policy) -> None:
    player = _player(policy)
    data, answers = _demonstrated(), _answers()
    seen = [_seen(policy, data, answers)]
    for step in range(10):
        player.learn(policy, seen, [], step)
    (h,) = player.judge(policy, seen)
    for row, scores in enumerate(player.discriminator.scores(policy, answers, 1000)):
        torch.testing.assert_close(scores, h[row, : len(scores)])
