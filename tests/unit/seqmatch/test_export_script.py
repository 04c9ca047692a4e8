"""The script in the download does what our decoder does, where no one tries it by hand."""

import argparse
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqmatch.config import DecodingConfig
from seqmatch.export_files import generate as script
from seqmatch.generation import UniformSource, generate, standing_tokens
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.text import render_prompt
from tests.architectures import SUPPORTED, tiny_model
from tests.tiny_models import policy_of, row_of, tiny_gpt2, tiny_llama


def windowed(seed: int = 0) -> Any:
    """Reads 24 positions, its window, of 64."""
    config_class, changes, _ = SUPPORTED["mistral-windowed"]
    return tiny_model(config_class, {**changes, "vocab_size": 11}, seed)


TEMPLATE = (
    "{% for message in messages %}<bos>{{ message.role }}\n{{ message.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


@pytest.mark.parametrize("build", [tiny_llama, tiny_gpt2, windowed])
@pytest.mark.parametrize(("max_new_tokens", "max_actions"), [(12, 60), (5, 11), (8, 3)])
@pytest.mark.parametrize("to_the_end", [61, 4])  # of the positions that the model reads
def test_greedy_answers_are_the_same(
    build: Callable[..., Any], max_new_tokens: int, max_actions: int, to_the_end: int
) -> None:
    num_backspaces = 0
    for seed in range(3):
        policy = policy_of(build(seed=seed), likes_backspace=2.0)
        prompt = tuple(at % 9 for at in range(max(3, (policy.max_positions or 0) - to_the_end)))
        for row in (None, row_of(policy).detach()):
            decoding = DecodingConfig(
                temperature=0.0, max_new_tokens=max_new_tokens, max_actions=max_actions
            )
            (ours,) = generate(
                policy, [prompt], decoding, backspace=row is not None, uniforms=UniformSource(0)
            )
            arguments = argparse.Namespace(seed=0, **decoding.model_dump(exclude={"seed", "top_p"}))

            found = script.answer(policy.lm, list(prompt), row, policy.space.eos_id, arguments)

            backspace_id = policy.space.backspace_id
            assert tuple(found[0]) == standing_tokens(ours.actions, backspace_id)
            assert found[1] == ours.actions.count(backspace_id)
            num_backspaces += found[1]
    assert num_backspaces or max_actions == 3 or to_the_end == 4


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("prompt", ["12+3=", "say <eos> and <bos>user", ""])
def test_prompts_have_the_tokens_of_training(template: str | None, prompt: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template

    assert tuple(script.prompt_ids(tokenizer, prompt)) == render_prompt(tokenizer, prompt)


def test_a_prompt_without_room_is_refused() -> None:
    policy = policy_of(tiny_gpt2())
    arguments = argparse.Namespace(seed=0, temperature=1.0, max_new_tokens=4, max_actions=16)

    with pytest.raises(SystemExit, match="reads 64 tokens"):
        script.answer(policy.lm, [1] * 64, None, policy.space.eos_id, arguments)


def test_the_row_of_backspace_is_not_needed_without_it() -> None:
    policy = policy_of(tiny_llama(), backspace=False)
    arguments = argparse.Namespace(seed=1, temperature=1.0, max_new_tokens=4, max_actions=16)

    stack, num_backspaces = script.answer(policy.lm, [1, 2], None, policy.space.eos_id, arguments)

    assert 1 <= len(stack) <= 4
    assert num_backspaces == 0
    assert torch.is_grad_enabled()
