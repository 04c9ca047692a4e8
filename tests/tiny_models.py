"""Tiny random models of real architectures, as policies."""

from typing import Any

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from seqmatch.action_space import ActionSpace
from seqmatch.config import AdapterConfig
from seqmatch.policy import Policy
from seqmatch.scratch_model import byte_tokenizer

FULL = AdapterConfig(kind="full")


def tiny_llama(vocab_size: int = 11, seed: int = 0) -> LlamaForCausalLM:
    """Grouped-query attention and rotary positions; weights wide enough that logits differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        initializer_range=0.25,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).float()


def tiny_gpt2(vocab_size: int = 11, seed: int = 0) -> GPT2LMHeadModel:
    """Learned positions, and dropout 0."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.25,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config).float()


def policy_of(lm: Any, *, backspace: bool = True, likes_backspace: float = 1.0) -> Policy:
    """A policy whose stop token is the last id; its backspace row is random, not the mean."""
    vocab_size = lm.config.vocab_size
    space = ActionSpace(
        vocab_size=vocab_size,
        eos_id=vocab_size - 1,
        pad_id=vocab_size - 1,
        bos_id=None,
        has_backspace=backspace,
        unpushable=frozenset({vocab_size - 1}),
    )
    policy = Policy(lm, byte_tokenizer(), space, base_model="tiny", adapter=FULL)
    if policy.backspace_row is not None:
        torch.manual_seed(5)
        scale = likes_backspace * policy.head_weight.std().item()
        policy.backspace_row.data = torch.randn_like(policy.backspace_row) * scale
    return policy


def row_of(policy: Policy) -> torch.nn.Parameter:
    """The backspace row of a policy that has one."""
    assert policy.backspace_row is not None
    return policy.backspace_row


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer with ChatML turns; its end of a turn is not the end of a sequence."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer
