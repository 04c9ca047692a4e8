"""The decoder in an export: our code, our actions, its limits, and what it refuses."""

import ast
import importlib
import json
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import UniformSource, standing_tokens
from seqmatch.decoding.generation import generate as our_generate
from seqmatch.decoding.sampling import choose_by_uniform
from seqmatch.export_files.custom_generate.generate import NO_ACTION, BackspaceOutput, generate
from seqmatch.exported_decoder import decoder_sources, write_decoder
from seqmatch.policy import Policy, save_policy
from tests.architectures import tiny_model
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama

PROMPTS = [(1, 2, 3), (4,), (5, 6, 7, 8, 9, 1), (2, 2), (9, 9, 1, 1)]
PADDING = 0
BACKSPACE, STOP = 11, 10


def exported(policy: Policy, folder: Path) -> str:
    save_policy(policy, folder)
    write_decoder(folder, policy.max_positions)
    return str(folder)


def padded(prompts: list[tuple[int, ...]], side: str) -> dict[str, torch.Tensor]:
    longest = max(map(len, prompts))
    ids, mask = [], []
    for prompt in prompts:
        fill = [PADDING] * (longest - len(prompt))
        seen = [1] * len(prompt)
        ids.append([*fill, *prompt] if side == "left" else [*prompt, *fill])
        mask.append([0] * len(fill) + seen if side == "left" else seen + [0] * len(fill))
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def answers(policy: Policy, folder: str, side: str = "left", **settings: Any) -> BackspaceOutput:
    found = generate(
        policy.lm,
        **padded(PROMPTS, side),
        policy_folder=folder,
        return_dict_in_generate=True,
        **settings,
    )
    assert isinstance(found, BackspaceOutput)
    return found


def actions_of(found: BackspaceOutput) -> list[tuple[int, ...]]:
    assert found.actions is not None
    rows = [[action for action in row if action != NO_ACTION] for row in found.actions.tolist()]
    return [tuple(row) for row in rows]


def depths_of(actions: tuple[int, ...]) -> list[int]:
    return list(accumulate(-1 if action == BACKSPACE else 1 for action in actions))


def scaled() -> Any:
    """Its logits are half the head's, and so is backspace's."""
    return tiny_model("Granite", {"vocab_size": 11, "logits_scaling": 2.0})


@pytest.fixture(
    params=[(tiny_llama, 2.0), (tiny_gpt2, 2.0), (scaled, 6.0)], ids=["llama", "gpt2", "granite"]
)
def policy(request: pytest.FixtureRequest) -> Policy:
    build, likes_backspace = request.param
    return policy_of(build(), likes_backspace=likes_backspace)


@pytest.fixture
def folder(policy: Policy, tmp_path: Path) -> str:
    return exported(policy, tmp_path / "policy")


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 12, "max_actions": 60},
        {"max_new_tokens": 5, "max_actions": 11, "temperature": 1.7},
        {"max_new_tokens": 8, "max_actions": 3, "seed": 4},
        {"max_new_tokens": 12, "max_actions": 60, "top_p": 0.7, "seed": 2**31 - 1},
        {"max_new_tokens": 12, "max_actions": 60, "top_k": 9, "top_p": 0.98, "min_p": 0.01},
        {"max_new_tokens": 12, "max_actions": 60, "temperature": 0.0},
        {"max_new_tokens": 80, "max_actions": 90, "temperature": 0.6},  # 64 positions are read
    ],
)
@pytest.mark.parametrize("backspace", [True, False])
def test_actions_are_those_of_our_decoder(
    policy: Policy, folder: str, side: str, settings: dict[str, Any], backspace: bool
) -> None:
    decoding = DecodingConfig(**settings)
    ours = our_generate(
        policy, PROMPTS, decoding, backspace=backspace, uniforms=UniformSource(decoding.seed)
    )

    found = answers(policy, folder, side, backspace=backspace, **settings)

    assert actions_of(found) == [rollout.actions for rollout in ours]
    assert found.sequences is not None
    assert found.num_deletions is not None
    start = max(map(len, PROMPTS))
    assert torch.equal(found.sequences[:, :start], padded(PROMPTS, side)["input_ids"])
    for row, rollout in enumerate(ours):
        standing = standing_tokens(rollout.actions, BACKSPACE)
        shown = tuple(found.sequences[row, start:].tolist())
        assert shown == standing + (STOP,) * (len(shown) - len(standing))
        assert found.num_deletions[row] == rollout.actions.count(BACKSPACE)
    if settings["max_actions"] > 3 and "top_k" not in settings:
        assert bool(found.num_deletions.any()) == backspace


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_budget_the_floor_and_the_reserve_hold(temperature: float, tmp_path: Path) -> None:
    num_deletions = 0
    for seed in range(4):
        policy = policy_of(tiny_llama(seed=seed), likes_backspace=6.0)
        folder = exported(policy, tmp_path / f"policy-{seed}")
        found = answers(policy, folder, temperature=temperature, max_new_tokens=6, max_actions=24)
        for actions in actions_of(found):
            depths = depths_of(actions)
            assert len(actions) <= 24
            assert min(depths) >= 0
            assert max(depths) <= 6
            assert BACKSPACE not in actions[24 - 6 :]
            assert STOP not in actions[:-1]
            assert actions[-1] == STOP or depths[-1] == 6 or len(actions) == 24
            num_deletions += actions.count(BACKSPACE)
    assert num_deletions > 8


def test_greedy_answers_never_push_again_what_was_taken_back(tmp_path: Path) -> None:
    num_deletions = 0
    for seed in range(4):
        policy = policy_of(tiny_llama(seed=seed), likes_backspace=6.0)
        folder = exported(policy, tmp_path / f"policy-{seed}")
        for actions in actions_of(answers(policy, folder, temperature=0.0, max_actions=200)):
            stack: list[int] = []
            pushed: set[tuple[int, ...]] = set()
            for action in actions:
                if action == BACKSPACE:
                    stack.pop()
                    num_deletions += 1
                    continue
                stack.append(action)
                assert tuple(stack) not in pushed
                pushed.add(tuple(stack))
    assert num_deletions > 8


def test_no_prefix_is_read_twice(policy: Policy, folder: str) -> None:
    sizes: list[tuple[int, ...]] = []
    policy.lm.base_model.register_forward_hook(
        lambda _module, _args, inputs, _output: sizes.append(tuple(inputs["input_ids"].shape)),
        with_kwargs=True,
    )

    found = answers(policy, folder, max_new_tokens=12, max_actions=60)

    pushes = [sum(action != BACKSPACE for action in row) for row in actions_of(found)]
    ends = [depths_of(row)[-1] == 12 or row[-1] == STOP for row in actions_of(found)]
    # The last token of an answer is not read: nothing follows it.
    assert sum(rows for rows, _ in sizes[1:]) == sum(pushes) - sum(ends)
    assert {length for _, length in sizes[1:]} == {1}


def test_restrictions_leave_the_likeliest_action(policy: Policy, folder: str) -> None:
    greedy = actions_of(answers(policy, folder, backspace=False, do_sample=False))

    for restriction in ({"top_k": 1}, {"min_p": 1.0}, {"top_p": 1e-6}):
        assert actions_of(answers(policy, folder, backspace=False, **restriction)) == greedy
    assert actions_of(answers(policy, folder, top_k=0)) == actions_of(answers(policy, folder))


@pytest.mark.parametrize("restriction", [{"top_k": 4}, {"min_p": 0.3}])
def test_restrictions_follow_the_law(
    policy: Policy, folder: str, restriction: dict[str, Any]
) -> None:
    """The first action's probability, from the model's own logits."""
    with torch.no_grad():
        p = policy.lm(torch.tensor([PROMPTS[0]])).logits[0, -1].double().softmax(0)
    floor = p.topk(4).values[-1] if "top_k" in restriction else 0.3 * p.max()
    expected = torch.where(p >= floor, p, 0.0) / p[p >= floor].sum()
    ids = torch.tensor([PROMPTS[0]] * 4000)

    found = generate(policy.lm, ids, policy_folder=folder, max_new_tokens=1, **restriction)

    shares = torch.bincount(found[:, -1], minlength=11) / 4000
    error = (expected * (1 - expected) / 4000).sqrt()
    assert ((shares - expected).abs() <= 4.5 * error).all()


def test_stop_strings_end_an_answer_where_ours_does(tmp_path: Path) -> None:
    policy = policy_of(tiny_llama(vocab_size=259), likes_backspace=2.0)
    folder = exported(policy, tmp_path / "policy")
    limits: dict[str, Any] = {"max_new_tokens": 30, "max_actions": 120, "temperature": 2.0}
    decoding = DecodingConfig(**limits, stop_strings="a|b|c|d|e")
    ours = our_generate(policy, PROMPTS, decoding, backspace=True, uniforms=UniformSource(0))
    stops = {"stop_strings": ["a", "b", "c", "d", "e"], "tokenizer": policy.tokenizer}

    found = generate(
        policy.lm,
        **padded(PROMPTS, "left"),
        policy_folder=folder,
        return_dict_in_generate=True,
        **limits,
        **stops,
    )

    assert isinstance(found, BackspaceOutput)
    assert actions_of(found) == [rollout.actions for rollout in ours]
    assert any(chr(rollout.actions[-1]) in "abcde" for rollout in ours if rollout.is_finished)
    with pytest.raises(ValueError, match="stop_strings needs the tokenizer"):
        generate(policy.lm, **padded(PROMPTS, "left"), policy_folder=folder, stop_strings="a")


def test_a_generation_config_is_read_and_named_arguments_go_over_it(
    policy: Policy, folder: str
) -> None:
    config = GenerationConfig(do_sample=False, max_new_tokens=3, eos_token_id=7)

    found = answers(policy, folder, generation_config=config, max_new_tokens=5)

    expected = answers(policy, folder, temperature=0.0, max_new_tokens=5)
    assert actions_of(found) == actions_of(expected)


def test_other_types_of_weights(tmp_path: Path) -> None:
    policy = policy_of(tiny_llama(), likes_backspace=2.0)
    folder = exported(policy, tmp_path / "policy")
    policy.lm.to(torch.bfloat16)

    found = answers(policy, folder, max_new_tokens=9)

    assert all(len(row) >= 1 for row in actions_of(found))


def test_a_policy_without_backspace_answers_without(tmp_path: Path) -> None:
    policy = policy_of(tiny_llama(), backspace=False)
    folder = exported(policy, tmp_path / "policy")

    found = answers(policy, folder, max_new_tokens=9)

    assert not (Path(folder) / "custom_generate" / "backspace.safetensors").exists()
    assert found.num_deletions is not None
    assert not found.num_deletions.any()
    with pytest.raises(ValueError, match="has no backspace action"):
        answers(policy, folder, backspace=True)


def mistral(sliding_window: int | None) -> MistralForCausalLM:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=11,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.25,
        sliding_window=sliding_window,
    )
    return MistralForCausalLM(config).float()


def test_within_its_window_a_sliding_model_is_exact(tmp_path: Path) -> None:
    """Deleted tokens stay in the cache; they must not push others out of the window."""
    full = policy_of(mistral(None), likes_backspace=4.0)
    folder = exported(full, tmp_path / "policy")
    sliding = mistral(16)
    manifest = tmp_path / "policy" / "custom_generate" / "seqmatch.json"

    with pytest.raises(ValueError, match=r"forgets what is 16 tokens back .* reads 64;"):
        generate(sliding, **padded(PROMPTS, "left"), policy_folder=folder)

    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"max_positions": 16}))
    expected = answers(full, folder)
    found = answers(policy_of(sliding), folder)
    assert actions_of(found) == actions_of(expected)
    num_pushes = [sum(action != BACKSPACE for action in row) for row in actions_of(found)]
    assert max(map(len, PROMPTS)) + max(num_pushes) > 16  # more than a window of slots


def test_a_recurrent_model_is_refused(folder: str) -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=11, hidden_size=32, num_hidden_layers=1))

    with pytest.raises(ValueError, match="state that cannot be rolled back"):
        generate(model, torch.tensor([[1]]), policy_folder=folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_beams": 4, "streamer": object()}, "has no num_beams, streamer; allowed: backspace"),
        ({"temperature": -1.0}, "temperature is -1.0; allowed: at least 0"),
        ({"top_p": 0.0}, "top_p is 0; allowed"),
        ({"min_p": 1.5}, r"min_p is 1\.5; allowed: 0 to 1"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; allowed: at least 1"),
        ({"do_sample": True, "temperature": 0.0}, "leave one of them out"),
        ({"input_ids": None}, "input_ids is nothing"),
        ({"input_ids": torch.tensor([1, 2])}, r"shape \(2,\)"),
        ({"attention_mask": torch.ones(1, 2)}, "must be equal"),
        ({"attention_mask": torch.zeros(1, 3)}, "row 0 has 0 tokens; this policy reads 1 to 63"),
        ({"input_ids": torch.ones(1, 64, dtype=torch.long)}, "has 64 tokens"),
        ({"policy_folder": "nowhere"}, r"'nowhere' has no custom_generate/seqmatch\.json"),
        ({"policy_folder": None}, "name the folder of the export with policy_folder"),
    ],
)
def test_what_is_refused(folder: str, asked: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"input_ids": torch.tensor([[1, 2, 3]]), "policy_folder": folder}
    arguments |= asked

    with pytest.raises(ValueError, match=message):
        generate(tiny_llama(), **arguments)


def test_attention_that_cannot_hide_a_token_is_refused(policy: Policy, folder: str) -> None:
    policy.lm.config._attn_implementation = "flash_attention_2"

    with pytest.raises(ValueError, match="load the model with attn_implementation='sdpa'"):
        answers(policy, folder)


def test_a_row_of_another_model_is_refused(tmp_path: Path) -> None:
    policy = policy_of(tiny_llama())
    row_of(policy).data = torch.zeros(16)
    folder = exported(policy, tmp_path / "policy")

    with pytest.raises(ValueError, match=r"shape \(16,\) and LlamaForCausalLM hidden states of 32"):
        answers(policy, folder)


def test_the_files_import_nothing_that_a_stranger_lacks() -> None:
    sources = decoder_sources()
    allowed = {"numpy", "torch", "transformers", "safetensors", *sys.stdlib_module_names}
    for text in sources.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").partition(".")[0] in allowed
            elif isinstance(node, ast.ImportFrom):
                assert f"{node.module}.py" in sources
    assert "generate.py" in sources


def test_the_copies_choose_bitwise_as_we_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copied").mkdir()
    for name, text in decoder_sources().items():
        (tmp_path / "copied" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    copy = importlib.import_module("copied.generate")
    torch.manual_seed(1)
    logits = torch.randn(300, 1001) * 4
    rows, indices = np.arange(300), np.arange(300) ** 2

    numbers = copy.UniformSource(7).draw(rows, indices)
    uniforms = torch.from_numpy(numbers)

    assert np.array_equal(numbers, UniformSource(7).draw(rows, indices))
    for top_p in (1.0, 0.8):
        chosen = copy.choose_by_uniform(logits, uniforms, temperature=0.7, top_p=top_p)
        ours = choose_by_uniform(logits, uniforms, temperature=0.7, top_p=top_p)
        assert torch.equal(chosen, ours)
