"""Tiny random models of the architectures that users have, and how they are saved in a folder."""

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

from seqmatch.scratch_model import NUM_BYTES, byte_tokenizer

CONTEXT = 64
_WINDOW = 24
_LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": NUM_BYTES + 6,  # padded: three rows that no token has
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.25,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_TWO_KINDS = ["sliding_attention", "full_attention"]
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 20,
}
_DYNAMIC = {
    "rope_type": "dynamic",
    "rope_theta": 10_000.0,
    "factor": 2.0,
}

SUPPORTED: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama": ("Llama", {}, CONTEXT),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}, CONTEXT),
    "llama-several-eos": ("Llama", {"eos_token_id": [258, 1, 2]}, CONTEXT),
    "llama-dynamic-rope": ("Llama", {"rope_parameters": _DYNAMIC}, CONTEXT),
    "qwen2": ("Qwen2", {"sliding_window": 8, "use_sliding_window": False}, CONTEXT),
    "qwen2-windowed": (
        "Qwen2",
        {"sliding_window": _WINDOW, "use_sliding_window": True, "max_window_layers": 1},
        _WINDOW,
    ),
    "qwen3": ("Qwen3", {"head_dim": 8, "tie_word_embeddings": True}, CONTEXT),
    "mistral": ("Mistral", {"sliding_window": None}, CONTEXT),
    "mistral-long-window": ("Mistral", {"sliding_window": 4096}, CONTEXT),
    "mistral-windowed": ("Mistral", {"sliding_window": _WINDOW}, _WINDOW),
    "gemma": ("Gemma", {"head_dim": 8}, CONTEXT),
    "gemma2": (
        "Gemma2",
        {"head_dim": 8, "sliding_window": _WINDOW, "final_logit_softcapping": 3.0},
        _WINDOW,
    ),
    "gemma3": (
        "Gemma3Text",
        {"head_dim": 8, "sliding_window": _WINDOW, "layer_types": _TWO_KINDS},
        _WINDOW,
    ),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}, CONTEXT),
    "gpt_neox": ("GPTNeoX", {}, CONTEXT),
    "phi3": ("Phi3", {}, CONTEXT),
    "phi3-longrope": (
        "Phi3",
        {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 20},
        20,
    ),
    "olmo2": ("Olmo2", {}, CONTEXT),
    "olmo3": ("Olmo3", {"sliding_window": _WINDOW, "layer_types": _TWO_KINDS}, _WINDOW),
    "smollm3": ("SmolLM3", {}, CONTEXT),
    "granite": ("Granite", {"logits_scaling": 8.0, "embedding_multiplier": 3.0}, CONTEXT),
    "cohere": ("Cohere", {}, CONTEXT),
    "gpt_oss": (
        "GptOss",
        {
            "head_dim": 8,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "sliding_window": _WINDOW,
            "layer_types": _TWO_KINDS,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        },
        _WINDOW,
    ),
    "starcoder2": ("Starcoder2", {}, CONTEXT),
    "opt": ("OPT", {"word_embed_proj_dim": 32, "ffn_dim": 48}, CONTEXT),
}
"""By name: the config's class without "Config", what differs from a small Llama, and the limit."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "mamba": ("Mamba", {}, "keeps a recurrent state"),
    "jamba": ("Jamba", {}, "keeps a recurrent state"),
    "rwkv": ("Rwkv", {}, "keeps a recurrent state"),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "layers of type conv"),
    "mpt": ("Mpt", {}, "ALiBi"),
    "bloom": ("Bloom", {}, "explicit positions"),
    "bert": ("Bert", {}, "what comes after it"),
    "gpt_neo": (
        "GPTNeo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
        "layers of type local attention",
    ),
    "gemma3-with-images": (
        "Gemma3",
        {
            "text_config": {**_LLAMA_LIKE, "head_dim": 8},
            "vision_config": {
                "hidden_size": 16,
                "intermediate_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 8,
                "patch_size": 4,
            },
            "mm_tokens_per_image": 4,
        },
        "reads more than text",
    ),
    "llama4": ("Llama4Text", {}, "layers of type chunked_attention"),
}
"""The same, with what the message says."""


def tiny_model(config_class: str, changes: dict[str, Any], seed: int = 0) -> Any:
    """Returns a random model, its weights wide enough that logits differ."""
    config = getattr(transformers, f"{config_class}Config")(
        **copy.deepcopy({**_LLAMA_LIKE, **changes})
    )
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).float().eval()


def save_base(lm: Any, folder: Path) -> Path:
    """Writes a base model with the byte tokenizer into a folder, as users have them."""
    lm.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
