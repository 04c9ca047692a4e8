"""Policies: values along trajectories, saving and loading, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file

from seqmatch.config import AdapterConfig
from seqmatch.errors import ConfigError, ModelLoadError
from seqmatch.policy import Policy, load_policy, load_saved_policy, save_policy
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory
from tests.architectures import REFUSED, save_base, tiny_model
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

FULL, LORA = AdapterConfig(kind="full"), AdapterConfig(kind="lora", rank=2, scaling=4)
POP = 11
TRAJECTORIES = [
    Trajectory((1, 2), (3, 4, POP, 4, 10), (3, 7, POP, 4, 10)),
    Trajectory((5,), (6, 7, POP, POP, 8, 10), (6, 7, POP, POP, 8, 10)),
    Trajectory((9, 9, 9), (1, 10), (1, 10)),
]


def states_of(trajectory: Trajectory) -> list[tuple[int, ...]]:
    states = [trajectory.prompt_ids]
    for push in trajectory.pushes:
        states.append(states[-1][:-1] if push == POP else (*states[-1], push))
    return states


def own_logits(policy: Policy, state: tuple[int, ...], can_delete: bool) -> torch.Tensor:
    """From the model's own output on the state alone."""
    output = policy.lm(input_ids=torch.tensor([state]), output_hidden_states=True)
    logits: torch.Tensor = output.logits[0, -1]
    if not can_delete:
        return logits
    return torch.cat([logits, (output.hidden_states[-1][0, -1] @ row_of(policy))[None]])


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2])
@pytest.mark.parametrize("construction", ["trie", "refeed"])
def test_values_equal_rereading_every_state(
    build: Callable[[], Any], construction: Literal["trie", "refeed"]
) -> None:
    policy = policy_of(build())
    batch = build_batch(TRAJECTORIES, policy.space, construction=construction)
    found = policy.state_action_values(batch)
    for row, trajectory in enumerate(TRAJECTORIES):
        for time, state in enumerate(states_of(trajectory)):
            logits = own_logits(policy, state, len(state) > len(trajectory.prompt_ids))
            value = logits.logsumexp(0)
            torch.testing.assert_close(found.values[row, time], value, atol=1e-5, rtol=1e-5)
            if time < len(trajectory.labels):
                q = logits[trajectory.labels[time]]
                torch.testing.assert_close(found.chosen_q[row, time], q, atol=1e-5, rtol=1e-5)
        num_actions = len(trajectory.labels)
        assert found.values[row, num_actions + 1 :].eq(0).all()
        assert found.chosen_q[row, num_actions:].eq(0).all()
        assert found.is_action[row].sum() == num_actions


def test_values_on_request_equal_rereading_every_state() -> None:
    """Values at a temperature, the logit of backspace, and where it is demonstrated."""
    policy, beta = policy_of(tiny_llama()), 0.4
    batch = build_batch(TRAJECTORIES, policy.space)
    found = policy.state_action_values(batch, value_temperature=beta, with_backspace_q=True)
    usual = policy.state_action_values(batch)
    assert found.tempered_values is not None
    assert found.backspace_q is not None
    assert found.is_backspace_label is not None
    assert found.can_delete is batch.can_delete
    assert usual.tempered_values is usual.backspace_q is usual.can_delete is None
    torch.testing.assert_close((found.values, found.chosen_q), (usual.values, usual.chosen_q))
    for row, trajectory in enumerate(TRAJECTORIES):
        for time, label in enumerate(trajectory.labels):
            state = states_of(trajectory)[time]
            logits = own_logits(policy, state, len(state) > len(trajectory.prompt_ids))
            value = beta * (logits / beta).logsumexp(0)
            torch.testing.assert_close(
                found.tempered_values[row, time], value, atol=1e-5, rtol=1e-5
            )
            backspace = own_logits(policy, state, True)[-1]
            torch.testing.assert_close(
                found.backspace_q[row, time], backspace, atol=1e-5, rtol=1e-5
            )
            assert bool(found.is_backspace_label[row, time]) == (label == POP)
        num_actions = len(trajectory.labels)
        assert not found.is_backspace_label[row, num_actions:].any()
    assert (
        policy_of(tiny_llama(), backspace=False)
        .state_action_values(
            build_batch([TRAJECTORIES[2]], policy_of(tiny_llama(), backspace=False).space),
            with_backspace_q=True,
        )
        .backspace_q
        is None
    )


def test_gradients_equal_those_of_rereading_every_state() -> None:
    policy = policy_of(tiny_llama())
    found = policy.state_action_values(build_batch(TRAJECTORIES, policy.space))
    weights = dict(policy.trainable_parameters())
    loss: Any = found.values.sin().sum() + found.chosen_q.cos().sum()
    loss.backward()
    gradients = {name: weight.grad for name, weight in weights.items()}
    policy.zero_grad(set_to_none=True)
    total: Any = torch.zeros(())
    num_zeros = found.chosen_q.numel() - int(found.is_action.sum())
    for trajectory in TRAJECTORIES:
        for time, state in enumerate(states_of(trajectory)):
            logits = own_logits(policy, state, len(state) > len(trajectory.prompt_ids))
            total = total + logits.logsumexp(0).sin()
            if time < len(trajectory.labels):
                total = total + logits[trajectory.labels[time]].cos()
    (total + num_zeros).backward()
    assert "backspace_row" in weights
    for name, weight in weights.items():
        torch.testing.assert_close(gradients[name], weight.grad, atol=1e-4, rtol=1e-3)


def test_plain_rows_take_the_causal_path_with_the_same_values() -> None:
    policy = policy_of(tiny_llama())
    plain = [TRAJECTORIES[2], Trajectory((4,), (2, 3, 10), (2, 3, 10))]
    batch = build_batch(plain, policy.space)
    assert batch.is_plain
    found = policy.state_action_values(batch)
    mixed = policy.state_action_values(build_batch([*plain, TRAJECTORIES[0]], policy.space))
    torch.testing.assert_close(found.values, mixed.values[:2, :4], atol=1e-5, rtol=1e-5)


def test_backspace_starts_as_the_mean_unembedding_row() -> None:
    policy = load_policy(
        "byte-llama-small", FULL, True, seed=0, device="cpu", models_dir=Path("none")
    )
    mean = policy.lm.lm_head.weight.mean(dim=0)
    torch.testing.assert_close(row_of(policy).data, mean.data)
    hidden = torch.randn(3, 96)
    logits = policy.step_logits(hidden, torch.tensor([True, False, True]))
    torch.testing.assert_close(logits[0, -1], logits[0, :-1].mean(), atol=1e-5, rtol=1e-4)
    assert logits[1, -1] == -torch.inf
    assert policy.step_logits(hidden).shape == (3, 259)
    without = load_policy(
        "byte-llama-small", FULL, False, seed=0, device="cpu", models_dir=Path("none")
    )
    assert without.backspace_row is None
    assert (policy.space.num_actions, without.space.num_actions) == (260, 259)
    assert policy.space.unpushable == {256, 257, 258}


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    """A small pretrained model in a folder, with the byte tokenizer."""
    folder = tmp_path / "base"
    tiny_llama(vocab_size=259).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path, adapter: AdapterConfig, backspace: bool = True) -> Policy:
    return load_policy(
        str(folder),
        adapter,
        backspace,
        seed=1,
        device="cpu",
        models_dir=folder.parent,
        allowed=[str(folder)],
    )


def test_lora_is_on_all_linear_layers_and_starts_as_the_base(base_folder: Path) -> None:
    policy = load(base_folder, LORA)
    names = policy.trainable_parameters()
    adapted = {name.split(".lora_")[0].split(".")[-1] for name in names if "lora_" in name}
    expected = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert adapted == expected
    assert {name for name in names if "lora_" not in name} == {"backspace_row"}
    assert all(drop.p == 0.0 for drop in policy.modules() if isinstance(drop, torch.nn.Dropout))
    ids = torch.tensor([[1, 2, 3]])
    plain = load(base_folder, FULL)
    torch.testing.assert_close(policy.hidden_states(ids), plain.hidden_states(ids))
    again = load(base_folder, LORA)
    for name, weight in again.trainable_parameters().items():
        assert torch.equal(weight, names[name])


@pytest.mark.parametrize("adapter", [FULL, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("backspace", [True, False])
def test_a_saved_policy_is_the_same(
    base_folder: Path, tmp_path: Path, adapter: AdapterConfig, backspace: bool
) -> None:
    policy = load(base_folder, adapter, backspace)
    with torch.no_grad():
        for weight in policy.trainable_parameters().values():
            weight.add_(torch.randn_like(weight) * 0.1)
    saved = tmp_path / "saved"
    save_policy(policy, saved)
    assert not [p for p in saved.rglob("*") if p.suffix in {".bin", ".pt", ".pkl", ".pth"}]
    loaded = load_saved_policy(saved, device="cpu", models_dir=tmp_path, allowed=[str(base_folder)])
    assert loaded.space == policy.space
    assert list(loaded.trainable_parameters()) == list(policy.trainable_parameters())
    for name, weight in policy.trainable_parameters().items():
        assert torch.equal(loaded.trainable_parameters()[name], weight), name
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(loaded.hidden_states(ids), policy.hidden_states(ids))


def test_a_damaged_or_foreign_folder_is_refused(base_folder: Path, tmp_path: Path) -> None:
    def reload() -> Policy:
        return load_saved_policy(
            saved, device="cpu", models_dir=tmp_path, allowed=[str(base_folder)]
        )

    saved = tmp_path / "saved"
    with pytest.raises(ModelLoadError, match=r"no saved policy.*seqmatch\.json"):
        reload()
    save_policy(load(base_folder, LORA), saved)
    weights = saved / "adapter_model.safetensors"
    content = weights.read_bytes()
    (saved / "adapter_model.bin").write_bytes(content)
    weights.unlink()
    with pytest.raises(ModelLoadError, match="no other format"):
        reload()
    weights.write_bytes(content)
    (saved / "backspace.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="backspace"):
        reload()
    save_file({"other": torch.zeros(1)}, saved / "backspace.safetensors")
    with pytest.raises(ModelLoadError, match="backspace"):
        reload()
    (saved / "seqmatch.json").write_text('{"format": 99}')
    with pytest.raises(ModelLoadError, match="format"):
        reload()


def test_only_allowed_models_are_loaded(base_folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="not allowed here; allowed: byte-llama-small, smol"):
        load_policy(str(base_folder), LORA, True, seed=0, device="cpu", models_dir=base_folder)
    with pytest.raises(ModelLoadError, match="some/model"):
        load_policy(
            "other/model",
            LORA,
            True,
            seed=0,
            device="cpu",
            models_dir=base_folder,
            allowed=["some/model"],
        )


def test_an_unprepared_packaged_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="make model"):
        load_policy("smollm2-135m-instruct", LORA, True, seed=0, device="cpu", models_dir=tmp_path)


def test_lora_on_random_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"adapter\.kind 'full'"):
        load_policy("byte-llama-small", LORA, True, seed=0, device="cpu", models_dir=Path("none"))


def test_unsupported_architectures_are_refused(tmp_path: Path) -> None:
    config_class, changes, message = REFUSED["lfm2"]
    folder = save_base(tiny_model(config_class, changes), tmp_path / "base")
    with pytest.raises(ModelLoadError, match=message):
        load(folder, FULL)


def test_dropout_is_switched_off(tmp_path: Path) -> None:
    folder = tmp_path / "dropping"
    model = tiny_gpt2(vocab_size=259)
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(model.config, name, 0.5)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    policy = load(folder, LORA).train()
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(policy.hidden_states(ids), policy.hidden_states(ids))


def test_a_folder_without_safetensors_is_refused(base_folder: Path) -> None:
    weights = base_folder / "model.safetensors"
    weights.rename(base_folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="no model can be read"):
        load(base_folder, FULL)
