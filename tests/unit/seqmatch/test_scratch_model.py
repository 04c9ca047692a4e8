"""The byte-level model, and that the numbers of the built-in models are true."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoTokenizer

from seqmatch.base_models import BASE_MODELS
from seqmatch.scratch_model import byte_llama, byte_tokenizer

TOKENIZER = byte_tokenizer()
SMALL = BASE_MODELS["byte-llama-small"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_its_bytes_and_back(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert ids == list(text.encode())
    assert TOKENIZER.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_byte_has_its_own_token() -> None:
    assert len(TOKENIZER) == 259
    specials = TOKENIZER.convert_tokens_to_ids(["<pad>", "<bos>", "<eos>"])
    assert specials == [256, 257, 258]
    assert set(TOKENIZER.all_special_ids) == {256, 257, 258}


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for text in ["12+34=", " two  spaces \n\t", "日本語 <eos> é 😀 \u200d", "\x00\x7f"]:
        ids = TOKENIZER(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        again = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert again == ids
        assert loaded.decode(ids, clean_up_tokenization_spaces=False) == text
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (256, 257, 258)


def test_the_numbers_of_the_registry() -> None:
    model = byte_llama(seed=0)
    config = model.config
    assert sum(weight.numel() for weight in model.parameters()) == SMALL.num_parameters
    assert (config.num_hidden_layers, config.hidden_size) == (SMALL.num_layers, SMALL.hidden_size)
    assert config.vocab_size == SMALL.vocab_size == len(TOKENIZER)
    assert config.num_key_value_heads < config.num_attention_heads


def test_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, same, other = byte_llama(seed=3), byte_llama(seed=3), byte_llama(seed=4)
    assert torch.equal(before, torch.random.get_rng_state())
    row, again, different = (next(model.parameters()) for model in (one, same, other))
    assert torch.equal(row, again)
    assert not torch.equal(row, different)


@pytest.mark.parametrize("name", sorted(BASE_MODELS))
def test_licence_and_description_are_told(name: str) -> None:
    assert BASE_MODELS[name].licence
    assert BASE_MODELS[name].description


@pytest.mark.smollm2
def test_the_numbers_of_the_packaged_model(smollm2_folder: Path) -> None:
    known = BASE_MODELS["smollm2-135m-instruct"]
    config = AutoConfig.from_pretrained(smollm2_folder, local_files_only=True)
    assert (config.num_hidden_layers, config.hidden_size) == (known.num_layers, known.hidden_size)
    assert config.vocab_size == known.vocab_size
