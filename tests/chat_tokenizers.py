"""A small tokenizer that merges, with the turns of the families of chat models."""

from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from seqmatch.scratch_model import byte_tokenizer

_MERGES = [("Ċ", "Ċ"), ("P", "a"), ("r", "i"), ("ri", "s"), ("Pa", "ris"), ("Ġ", "Paris")]
"""Of byte-level symbols: Ċ is a line's end, Ġ a space."""


@dataclass(frozen=True)
class Family:
    """How a family of chat models writes turns: facts of its format, in our own words."""

    template: str
    special: tuple[str, ...]
    """Its special tokens; the last one ends an answer."""
    plain: tuple[str, ...] = ()
    """Added tokens that are text: those that stand around thoughts."""
    answered: str = "Paris"
    """What the tokens of the answer "Paris" say, without the stop token."""


_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILIES = {
    "chatml": Family(_CHATML, ("<|im_start|>", "<|im_end|>")),
    "llama-3": Family(
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}"
        "<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n"
        "{% endif %}",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "mistral": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
        "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}"
        "{% endfor %}",
        ("<eos>",),
        answered=" Paris",
    ),
    "llama-2": Family(
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token }}[INST] "
        "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}{% endif %}"
        "{% endfor %}",
        ("<eos>",),
        answered=" Paris ",
    ),
    "gemma": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system turns') }}{% endif %}<start_of_turn>"
        "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    "zephyr": Family(
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        ("<eos>",),
    ),
    "phi-3": Family(
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}",
        ("<|user|>", "<|assistant|>", "<|end|>"),
    ),
    "qwen-3": Family(
        _THINKING,
        ("<|im_start|>", "<|im_end|>"),
        plain=("<think>", "</think>"),
        answered="<think>\n\n</think>\n\nParis",
    ),
    "qwen-3-thinks-first": Family(
        _THINKING.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"),
        ("<|im_start|>", "<|im_end|>"),
        plain=("<think>", "</think>"),
        answered="\n</think>\n\nParis",
    ),
    "lines": Family(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        ("<eos>",),
    ),
}
FORGETS_THOUGHTS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% else %}"
    "<|assistant|>{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
"""Asks for thoughts, and leaves them out of the turns that stand."""


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few merges, with the family's tokens and template."""
    vocab = {symbol: at for symbol, at in byte_tokenizer().get_vocab().items() if at < 256}
    for left, right in _MERGES:
        vocab[left + right] = len(vocab)
    backend = Tokenizer(BPE(vocab=vocab, merges=_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>"
    )
    tokenizer.add_special_tokens({"extra_special_tokens": list(family.special)})
    tokenizer.add_tokens([AddedToken(name, special=False) for name in family.plain])
    tokenizer.chat_template = family.template
    return tokenizer
