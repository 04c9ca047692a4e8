"""The script in the download reads prompts as training does."""

import pytest

from seqmatch.export_files import generate as script
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.text import render_prompt

TEMPLATE = (
    "{% for message in messages %}<bos>{{ message.role }}\n{{ message.content }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n{% endif %}"
)


@pytest.mark.parametrize("template", [None, TEMPLATE])
@pytest.mark.parametrize("prompt", ["12+3=", "say <eos> and <bos>user", ""])
def test_prompts_have_the_tokens_of_training(template: str | None, prompt: str) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template

    assert tuple(script.prompt_ids(tokenizer, prompt)) == render_prompt(tokenizer, prompt)
