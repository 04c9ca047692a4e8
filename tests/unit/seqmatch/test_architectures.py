"""Every architecture from its folder: values, decoding, steps and files; and what is refused."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from seqmatch.architectures import check_architecture, position_limit
from seqmatch.config import AdapterConfig
from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.errors import ModelLoadError
from seqmatch.objectives import SequenceMatchConfig, SFTConfig
from seqmatch.objectives.dispatch import objective_loss
from seqmatch.policy import Policy, load_policy, load_saved_policy, save_policy
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory
from tests.architectures import REFUSED, SUPPORTED, save_base, tiny_model
from tests.tiny_models import row_of

FULL, LORA = AdapterConfig(kind="full"), AdapterConfig(kind="lora", rank=2, scaling=4)
every = pytest.mark.parametrize("name", SUPPORTED)


def trajectories_of(policy: Policy) -> list[Trajectory]:
    """A row that fills the limit, and one whose slots are many more than its positions."""
    pop, stop = policy.space.backspace_id, policy.space.eos_id
    limit = min(policy.max_positions or 24, 24)
    filling = (*range(40, 40 + limit - 4), stop)
    detours = (65, 66, pop, 67, pop, 68, 69, pop, pop, 70, pop, 71, 72, pop, 73, pop, 74, pop, 75)
    return [
        Trajectory((1, 2, 3), filling, filling),
        Trajectory((9, 8), (*detours, 76, stop), (*detours, 76, stop)),
    ]


def states_of(trajectory: Trajectory, pop: int) -> list[tuple[int, ...]]:
    states = [trajectory.prompt_ids]
    for push in trajectory.pushes:
        states.append(states[-1][:-1] if push == pop else (*states[-1], push))
    return states


def load(folder: Path, adapter: AdapterConfig) -> Policy:
    return load_policy(
        str(folder),
        adapter,
        True,
        seed=1,
        device="cpu",
        models_dir=folder.parent,
        allowed=[str(folder)],
    )


def shake(policy: Policy) -> None:
    with torch.no_grad():
        for weight in policy.trainable_parameters().values():
            weight.add_(torch.randn_like(weight) * 0.05)


@every
def test_the_whole_path(name: str, tmp_path: Path) -> None:
    """Load, values of both layouts, decoding, one step of each kind, save and load again."""
    config_class, changes, limit = SUPPORTED[name]
    folder = save_base(tiny_model(config_class, changes), tmp_path / "base")
    for adapter in (LORA, FULL):
        policy = load(folder, adapter)
        assert policy.max_positions == limit
        assert policy.space.vocab_size == 262
        assert {259, 260, 261} <= policy.space.unpushable
        shake(policy)
        check_values(policy)
        check_decoded(policy)
    for adapter in (LORA, FULL):
        policy = load(folder, adapter)
        check_steps(policy)
        check_saved(policy, folder, tmp_path / adapter.kind)


def check_values(policy: Policy) -> None:
    """In float64 against the model's own output on every state alone."""
    if policy.lm_config.model_type != "gpt_oss":  # torch has grouped products in float32 only
        policy = policy.double()
    pop = policy.space.backspace_id
    constructions: tuple[Literal["trie", "refeed"], ...] = ("trie", "refeed")
    trajectories = trajectories_of(policy)
    own = {
        state: own_logits(policy, state)
        for trajectory in trajectories
        for state in states_of(trajectory, pop)
    }
    for construction in constructions:
        batch = build_batch(trajectories, policy.space, construction=construction)
        with torch.no_grad():
            found = policy.state_action_values(batch)
        for row, trajectory in enumerate(trajectories):
            for time, state in enumerate(states_of(trajectory, pop)):
                at_floor = len(state) == len(trajectory.prompt_ids)
                logits = own[state][:-1] if at_floor else own[state]
                value = logits.logsumexp(0).to(found.values.dtype)
                torch.testing.assert_close(found.values[row, time], value, atol=1e-5, rtol=1e-5)
                if time < len(trajectory.labels):
                    q = logits[trajectory.labels[time]].to(value.dtype)
                    torch.testing.assert_close(found.chosen_q[row, time], q, atol=1e-5, rtol=1e-5)
    policy.float()


def own_logits(policy: Policy, state: tuple[int, ...]) -> torch.Tensor:
    """The model's own logits, and backspace's last."""
    with torch.no_grad():
        output = policy.lm(input_ids=torch.tensor([state]), output_hidden_states=True)
    backspace = output.hidden_states[-1][0, -1] @ row_of(policy).detach()
    return torch.cat([output.logits[0, -1], after_head(policy.lm_config, backspace)[None]])


def after_head(config: Any, score: torch.Tensor) -> torch.Tensor:
    """What Gemma 2, Granite and Cohere do to each logit."""
    if cap := getattr(config, "final_logit_softcapping", None):
        score = cap * torch.tanh(score / cap)
    return score * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)


def check_decoded(policy: Policy) -> None:
    """Rows of different lengths grow and shrink; each state equals reading its prefix afresh."""
    rng = np.random.default_rng(0)
    texts: list[tuple[int, ...]] = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1)]
    room = min(policy.max_positions or 24, 24) - 6
    states = LivePrefixes(policy, num_rows=3, longest_prompt=6, max_depth=room)
    states.add(texts)
    floors = np.array([len(text) for text in texts])
    every_row = np.arange(3)
    for push in range(room + 4):
        if push % 3 == 2:
            rows = every_row[states.depth > 0]
            states.pop(rows)
            texts = [text[:-1] if row in rows else text for row, text in enumerate(texts)]
        rows = every_row[states.depth < room]
        tokens = rng.integers(0, 256, size=len(rows))
        states.push(rows, tokens)
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            texts[row] = (*texts[row], token)
    assert (states.depth == np.array([len(text) for text in texts]) - floors).all()
    logits = policy.step_logits(states.current(every_row), torch.tensor([True] * 3))
    expected = torch.stack([own_logits(policy, text) for text in texts])
    torch.testing.assert_close(logits.detach(), expected, atol=1e-3, rtol=1e-4)


def check_steps(policy: Policy) -> None:
    """A step of each objective changes weights and leaves them finite."""
    optimizer = torch.optim.AdamW(policy.trainable_parameters().values(), lr=1e-3)
    batch = build_batch(trajectories_of(policy), policy.space)
    for objective in (SFTConfig(), SequenceMatchConfig()):
        before = {name: p.detach().clone() for name, p in policy.trainable_parameters().items()}
        values = policy.state_action_values(batch)
        loss: Any = objective_loss(objective, values, values, 0.0).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after = policy.trainable_parameters()
        assert all(weight.isfinite().all() for weight in after.values())
        assert any(not torch.equal(before[key], after[key]) for key in before)


def check_saved(policy: Policy, folder: Path, saved: Path) -> None:
    save_policy(policy, saved)
    again = load_saved_policy(saved, device="cpu", models_dir=folder.parent, allowed=[str(folder)])
    assert again.space == policy.space
    assert again.max_positions == policy.max_positions
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        one, other = policy.hidden_states(ids), again.hidden_states(ids)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused_by_its_cause(name: str) -> None:
    config_class, changes, message = REFUSED[name]
    with pytest.raises(ModelLoadError, match=message):
        check_architecture(tiny_model(config_class, changes), name)


@pytest.mark.parametrize("name", ["mistral-windowed", "gemma3", "phi3-longrope"])
def test_beyond_the_limit_the_model_is_another_one(name: str) -> None:
    """So that the limit is neither too low nor too high by one where the window decides."""
    config_class, changes, limit = SUPPORTED[name]
    lm = tiny_model(config_class, changes)
    assert position_limit(lm.config) == limit
    unlimited = tiny_model(config_class, changes)
    if name == "phi3-longrope":
        unlimited.config.original_max_position_embeddings = 63
        unlimited.config.rope_parameters["original_max_position_embeddings"] = 63
    else:
        unlimited.config.sliding_window = 10**6
    ids = torch.arange(limit + 1)[None] + 1
    with torch.no_grad():
        for length, is_same in ((limit, True), (limit + 1, False)):
            one = lm(input_ids=ids[:, :length], use_cache=False).logits
            other = unlimited(input_ids=ids[:, :length], use_cache=False).logits
            assert torch.allclose(one, other, atol=1e-5) is is_same, length


def test_logits_that_are_changed_in_an_unknown_way_are_refused() -> None:
    model = tiny_model(*SUPPORTED["llama"][:2])
    forward = model.forward

    def doubled(*given: Any, **named: Any) -> Any:
        output = forward(*given, **named)
        output.logits = 2.0 * output.logits
        return output

    model.forward = doubled
    with pytest.raises(ModelLoadError, match="by more than a scale or a soft cap"):
        check_architecture(model, "a model")
