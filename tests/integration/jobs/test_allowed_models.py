"""A run on a folder that the operator allowed works through the worker; another is refused."""

from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from seqmatch.jobs.allowed_models import allow_models
from seqmatch.jobs.store_reporter import StoreReporter
from seqmatch.jobs.worker import TRAINER, attempt
from seqmatch.scratch_model import byte_tokenizer
from tests.integration.jobs.shop import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def train(shop: Shop, base_model: str) -> dict[str, str]:
    run = shop.queue(
        base_model=base_model,
        adapter={"kind": "lora"},
        optimization={"num_steps": 2, "batch_size": 2, "warmup_steps": 0},
        evaluation={"num_prompts": 2, "max_new_tokens": 2, "num_samples": 1},
    )
    shop.store.devices.set_slots(["cpu:0"])
    claim = shop.store.runs.claim("test")
    assert claim is not None
    reporter = StoreReporter(shop.store, run.id, claim.attempt)
    result = attempt(shop.store, claim.run, claim.attempt, reporter, TRAINER)
    reporter.close()
    assert result is not None
    return result


def test_an_allowed_folder_is_trained_on(shop: Shop, folder: Path) -> None:
    allow_models(shop.store, [str(folder)])
    assert train(shop, str(folder)) == {"status": "completed"}


def test_another_folder_is_refused_with_what_is_allowed(shop: Shop, folder: Path) -> None:
    allow_models(shop.store, ["/models/other"])
    result = train(shop, str(folder))
    assert (result["status"], result["error_kind"]) == ("failed", "ModelLoadError")
    assert "byte-llama-small" in result["error_message"]
    assert "/models/other" in result["error_message"]
