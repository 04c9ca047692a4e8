"""Estimates are plain arithmetic: they grow with what costs, and need no torch."""

import subprocess
import sys

from seqmatch.base_models import BASE_MODELS
from seqmatch.config import AdapterConfig, DataConfig, OptimizationConfig, RunConfig
from seqmatch.estimates import estimate, estimate_step_flops, num_trained
from seqmatch.objectives import CorruptionConfig, SequenceMatchConfig, SFTConfig

DATA = DataConfig(dataset="x")
SMOLLM2 = "smollm2-135m-instruct"


def test_more_work_costs_more() -> None:
    small = RunConfig(data=DATA, adapter=AdapterConfig(kind="full"))
    matching = small.model_copy(update={"objective": SequenceMatchConfig()})
    large = RunConfig(data=DATA, base_model=SMOLLM2)
    longer = small.model_copy(
        update={"optimization": OptimizationConfig(num_steps=6000, batch_size=64)}
    )
    assert estimate(small).seconds < estimate(matching).seconds < estimate(large).seconds
    assert 1.8 < estimate(longer).seconds / estimate(small).seconds < 2.0  # the start is the same
    assert estimate(small).memory_bytes < estimate(large).memory_bytes
    assert estimate(small, mean_tokens=14).seconds < estimate(small).seconds


def test_further_passes_cost_time_and_a_target_network_memory() -> None:
    noise = CorruptionConfig(alphabet="model_top_k")
    found = {
        name: estimate(RunConfig(data=DATA, objective=objective))
        for name, objective in {
            "plain": SequenceMatchConfig(),
            "offline": SequenceMatchConfig(offline=True),
            "target": SequenceMatchConfig(target_decay=0.99),
            "noise": SequenceMatchConfig(corruption=noise),
            "bursts": SequenceMatchConfig(corruption=noise.model_copy(update={"burst": 3})),
            "no backspace": SequenceMatchConfig(corruption=noise, backspace=False),
            "sft": SFTConfig(backspace=True),
            "sft noise": SFTConfig(backspace=True, corruption=noise),
        }.items()
    }
    seconds = {name: each.seconds for name, each in found.items()}

    assert seconds["offline"] < seconds["plain"] < seconds["target"] < 2 * seconds["plain"]
    assert seconds["plain"] < seconds["noise"] < seconds["bursts"]
    assert seconds["no backspace"] < seconds["plain"]
    assert seconds["sft"] < seconds["sft noise"] < 1.5 * seconds["sft"]
    extra = found["target"].memory_bytes - found["plain"].memory_bytes
    model = BASE_MODELS[RunConfig(data=DATA).base_model]
    assert extra == 4 * model.num_parameters


def test_several_gpus_are_faster_and_shards_smaller() -> None:
    one = RunConfig(
        data=DATA, base_model=SMOLLM2, adapter=AdapterConfig(kind="full"), device="cuda"
    )
    two = one.model_copy(update={"device": "cuda,cuda"})
    shards = two.model_copy(update={"parallelism": "shard"})
    on_cpu = one.model_copy(update={"device": "cpu,cpu"})
    assert estimate(one).seconds / 2 < estimate(two).seconds < estimate(one).seconds
    assert estimate(on_cpu).seconds == estimate(one.model_copy(update={"device": "cpu"})).seconds
    model = BASE_MODELS[SMOLLM2]
    saved = estimate(two).memory_bytes - estimate(shards).memory_bytes
    assert abs(saved - 8 * model.num_parameters) < 2, "half of weight, gradient and two moments"


def test_checkpointing_saves_activations_and_costs_a_forward_pass() -> None:
    model = BASE_MODELS[SMOLLM2]
    for adapter, share in (
        (AdapterConfig(kind="full"), 1 / 3),
        (AdapterConfig(kind="lora"), 1 / 2),
    ):
        plain = estimate_step_flops(model, adapter, 1.0)
        further = estimate_step_flops(model, adapter, 1.0, is_checkpointed=True) - plain
        head = 2.0 * model.hidden_size * model.vocab_size
        assert further == 2.0 * model.num_parameters
        assert 0.95 * share < further / (plain - head) <= share
    few = RunConfig(
        data=DataConfig(dataset="x", max_tokens=64),
        base_model=SMOLLM2,
        optimization=OptimizationConfig(batch_size=16),
    )
    again = few.model_copy(update={"gradient_checkpointing": True})
    assert estimate(again).seconds > estimate(few).seconds
    saved = estimate(few).memory_bytes - estimate(again).memory_bytes
    layers, width = model.num_layers, model.hidden_size
    assert abs(saved - 4 * 16 * 64 * width * (24 * layers - 24 - layers)) < 2


def test_half_precision_on_a_cpu_takes_several_times_as_long_to_train_with() -> None:
    usual = RunConfig(data=DATA, base_model=SMOLLM2, device="cpu")
    half = usual.model_copy(update={"precision": "bfloat16"})
    assert 3 < estimate(half).seconds / estimate(usual).seconds < 6  # decoding takes what it took
    on_gpu = usual.model_copy(update={"device": "cuda"})
    assert estimate(on_gpu) == estimate(on_gpu.model_copy(update={"precision": "bfloat16"}))


def test_trained_weights_are_about_right() -> None:
    """LoRA of rank 8 on all linear layers of SmolLM2 has 2.44 million weights."""
    model = BASE_MODELS[SMOLLM2]
    assert 0.8 < num_trained(model, AdapterConfig(rank=8)) / 2_442_240 < 1.2
    assert num_trained(model, AdapterConfig(kind="full")) == model.num_parameters


def test_estimates_need_no_torch() -> None:
    code = "import sys, seqmatch.estimates; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
