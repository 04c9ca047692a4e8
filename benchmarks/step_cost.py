"""What a SequenceMatch step costs, sampling left out, against a step of plain fine-tuning.

`python -m benchmarks.step_cost`: row 4 of the table. The baseline is transformers' own loss,
`model(input_ids, labels=...)`, on the demonstrations; a SequenceMatch step has the same
demonstrations, with a mistake every so often, and as many sampled answers of the same length. All
variants train the same policy with the same optimiser, and clip. SmolLM2 is measured where
`make model` has prepared it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.paired import Figure, compare, control_of, show
from benchmarks.random_rows import PROMPT, answers, clean, demonstration, rollout
from seqmatch import packaged_model
from seqmatch.action_space import ActionSpace
from seqmatch.config import AdapterConfig, OptimizationConfig
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.gradients import BatchLoss, accumulate_gradients
from seqmatch.objectives import ObjectiveConfig, SequenceMatchConfig, SFTConfig
from seqmatch.optimization import apply_gradients, make_optimizer
from seqmatch.policy import Policy, load_policy
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.types import Trajectory

A_MISTAKE_EVERY = 50


@dataclass
class Trained:
    """A policy with its optimiser, and batches of one size."""

    policy: Policy
    optimizer: torch.optim.Optimizer
    answers: Sequence[tuple[int, ...]]
    sampled: Sequence[tuple[int, ...]]

    @staticmethod
    def of(base_model: str, adapter: AdapterConfig, num_rows: int, num_positions: int) -> "Trained":
        """Loads a base model and draws batches."""
        models_dir = DEFAULT_DATA_DIR / "models"
        policy = load_policy(base_model, adapter, True, seed=0, device="cpu", models_dir=models_dir)
        return Trained.with_policy(policy, num_rows, num_positions)

    @staticmethod
    def with_policy(policy: Policy, num_rows: int, num_positions: int) -> "Trained":
        """Draws batches for a policy."""
        optimizer = make_optimizer(policy.trainable_parameters(), OptimizationConfig())
        drawn = answers(2 * num_rows, num_positions, policy.space, seed=0)
        return Trained(policy, optimizer, drawn[:num_rows], drawn[num_rows:])

    def transformers_loss(self) -> torch.Tensor:
        """Nats per token of the answers, by the model itself."""
        rows = [(*answer[:PROMPT], *answer) for answer in self.answers]
        input_ids = torch.tensor(rows, device=self.policy.device)
        labels = input_ids.clone()
        labels[:, :PROMPT] = -100
        loss: torch.Tensor = self.policy.lm(input_ids=input_ids, labels=labels).loss
        return loss

    def transformers_step(self) -> None:
        """The baseline."""
        loss = self.transformers_loss()
        torch.autograd.backward(loss)
        self.apply(loss.item())

    def sft_step(self) -> None:
        """Our own fine-tuning, on the same rows."""
        data = [clean(answer) for answer in self.answers]
        self.apply(_gradients(self.policy, SFTConfig(), data, []).loss)

    def sequence_match_step(self) -> None:
        """The step in question."""
        space = self.policy.space
        data = [demonstration(answer, space, A_MISTAKE_EVERY) for answer in self.answers]
        sampled = [rollout(answer, space, A_MISTAKE_EVERY) for answer in self.sampled]
        self.apply(_gradients(self.policy, SequenceMatchConfig(), data, sampled).loss)

    def off_by(self) -> float:
        """The relative difference of our and transformers' nats per token on the same rows.

        Without backspace, which transformers does not know.
        """
        with torch.no_grad():
            wanted = self.transformers_loss().item()
        policy = self.policy
        tokens_only = Policy(
            policy.lm,
            policy.tokenizer,
            replace(policy.space, has_backspace=False),
            base_model=policy.base_model,
            adapter=policy.adapter,
        )
        data = [clean(answer) for answer in self.answers]
        found = _gradients(tokens_only, SFTConfig(), data, [])
        self.optimizer.zero_grad(set_to_none=True)
        return abs(found.terms["train/nll"] / wanted - 1.0)

    def apply(self, loss: float) -> None:
        """One step of the optimiser with the gradients there are."""
        apply_gradients(self.optimizer, loss, learning_rate=1e-5, max_grad_norm=1.0)


def tiny_policy() -> Policy:
    """Random weights: 4 layers, hidden size 128, vocabulary 1,024."""
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    return random_policy(config, torch.device("cpu"))


def random_policy(config: LlamaConfig, device: torch.device) -> Policy:
    """Random weights of any size, made on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        lm = LlamaForCausalLM(config)
    space = ActionSpace(
        vocab_size=config.vocab_size,
        eos_id=2,
        pad_id=2,
        bos_id=None,
        has_backspace=True,
        unpushable=frozenset({2}),
    )
    full = AdapterConfig(kind="full")
    policy = Policy(lm, byte_tokenizer(), space, base_model="random", adapter=full)
    return policy.to(device)


def _gradients(
    policy: Policy,
    objective: ObjectiveConfig,
    data: Sequence[Trajectory],
    sampled: Sequence[Trajectory],
) -> BatchLoss:
    """Adds gradients, in one pass."""
    return accumulate_gradients(policy, objective, data, sampled, beta=0.5, max_positions=10**9)


def figures() -> Iterator[Figure]:
    """Measures two small models, and SmolLM2 where it is prepared."""
    full, lora = AdapterConfig(kind="full"), AdapterConfig(kind="lora")
    tiny = Trained.with_policy(tiny_policy(), 8, 64)
    yield _figure("4 layers of 128, V 1,024, 8 x 64", tiny, 2.0, rounds=11, warm_up=2)
    small = Trained.of("byte-llama-small", full, 8, 64)
    yield _figure("byte-llama-small, all weights, 8 x 64", small, 2.0, rounds=15, warm_up=3)
    if packaged_model.is_prepared(DEFAULT_DATA_DIR / "models"):
        large = Trained.of("smollm2-135m-instruct", lora, 2, 128)
        yield _figure("SmolLM2-135M, LoRA, 2 x 128", large, 2.15, rounds=5, warm_up=1)


def _figure(words: str, trained: Trained, goal: float, *, rounds: int, warm_up: int) -> Figure:
    error = trained.off_by()
    steps: dict[str, Callable[[], None]] = {
        "transformers": trained.transformers_step,
        "sft": trained.sft_step,
        "sequence_match": trained.sequence_match_step,
    }
    ratios = compare(steps, "transformers", rounds=rounds, warm_up=warm_up)
    return Figure(
        row="4",
        what=f"SequenceMatch step without sampling, {words}",
        measured=f"{ratios['sequence_match']} of transformers' own loss, "
        f"{ratios['sequence_match'].median / ratios['sft'].median:.2f} of our fine-tuning step",
        goal=f"<= {goal:.2f}",
        is_met=ratios["sequence_match"].median <= goal,
        is_clear=ratios["sequence_match"].is_clear_of(goal),
        equality=f"nats per token of ours and transformers', off by {error:.0e}",
        control=control_of(ratios),
    )


def main() -> int:
    """Prints the rows."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
