"""Decoding with backspace beside transformers' `generate`, and what a deletion costs.

`python -m benchmarks.decoding`: rows 7, 8, 9 and 11 of the table. Actions are those of a tape, so
that every variant appends equally many tokens; ours still samples at each of them, as `generate`
does, and the tape then overrules. SmolLM2 is measured where `make model` has prepared it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig

from benchmarks.paired import Figure, compare, control_of, show
from benchmarks.step_cost import tiny_policy
from seqmatch import packaged_model
from seqmatch.config import AdapterConfig
from seqmatch.config_flags import DEFAULT_DATA_DIR
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.episodes import Choice, Episode, Episodes, sampled
from seqmatch.decoding.generation import generate, standing_tokens
from seqmatch.decoding.live_prefixes import LivePrefixes
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.policy import Policy, load_policy

SMOLLM2 = "smollm2-135m-instruct"
Tape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """Prompts of one length, and how many tokens are appended to each."""

    words: str
    policy: Policy
    num_rows: int
    prompt_length: int
    num_appended: int

    def named(self, words: str) -> "Case":
        """Returns the same under another name."""
        return replace(self, words=words)

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Random tokens."""
        rng = np.random.default_rng(1)
        shape = self.num_rows, self.prompt_length
        return [tuple(row) for row in rng.integers(3, 250, size=shape).tolist()]

    def tapes(self, deletions: float) -> list[Tape]:
        """Actions of each row: before each push as many deletions as a coin says."""
        rng, space = np.random.default_rng(2), self.policy.space
        tapes = []
        for _ in range(self.num_rows):
            actions: list[int] = []
            depth = 0
            for _ in range(self.num_appended - 1):
                while depth and rng.random() < deletions / (1 + deletions):
                    actions.append(space.backspace_id)
                    depth -= 1
                actions.append(int(rng.integers(3, 250)))
                depth += 1
            tapes.append((*actions, space.eos_id))
        return tapes

    def decode(self, tapes: Sequence[Tape]) -> None:
        """Runs the tapes through the engine."""
        episodes = [
            Episode(row, row, prompt, self.num_appended) for row, prompt in enumerate(self.prompts)
        ]
        decoding = DecodingConfig(max_new_tokens=self.num_appended, max_actions=16_384)
        choose = overruled(sampled(decoding, UniformSource(0)), tapes)
        backspace = self.policy.space.has_backspace
        Episodes(self.policy, episodes, self.num_rows, decoding, choose, backspace=backspace).run(
            None
        )

    def transformers_decode(self, *, sample: bool = True) -> list[tuple[int, ...]]:
        """The baseline: as many tokens by `generate`; returns them."""
        ids = torch.tensor(self.prompts, device=self.policy.device)
        settings = GenerationConfig(
            max_new_tokens=self.num_appended,
            do_sample=sample,
            top_k=0 if sample else None,
            eos_token_id=None,
            pad_token_id=0,
        )
        with torch.no_grad():
            found = self.policy.lm.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings
            )
        return [tuple(row) for row in found[:, self.prompt_length :].tolist()]


def overruled(choose: Choice, tapes: Sequence[Tape]) -> Choice:
    """Chooses, and then takes what the tape says."""

    def from_tape(logits: Tensor, episodes: Sequence[Episode]) -> Tensor:
        choose(logits, episodes)
        return torch.tensor([tapes[each.number][len(each.actions)] for each in episodes])

    return from_tape


def worst_logit(case: Case, tapes: Sequence[Tape]) -> float:
    """The largest difference of a logit from reading the text afresh, over all states of a tape.

    Before each push every row's state is compared.
    """
    policy = case.policy
    states = LivePrefixes(
        policy,
        num_rows=case.num_rows,
        longest_prompt=case.prompt_length,
        max_depth=case.num_appended,
    )
    rows = states.add(case.prompts)
    done = [0] * case.num_rows
    worst = 0.0
    for _ in range(case.num_appended - 1):
        for row in rows.tolist():
            while tapes[row][done[row]] == policy.space.backspace_id:
                states.pop(np.array([row]))
                done[row] += 1
        texts = [
            (*prompt, *standing_tokens(tape[:count], policy.space.backspace_id))
            for prompt, tape, count in zip(case.prompts, tapes, done, strict=True)
        ]
        worst = max(worst, (states.logits(rows) - afresh(policy, texts)).abs().max().item())
        states.push(rows, np.array([tapes[row][done[row]] for row in rows.tolist()]))
        done = [count + 1 for count in done]
    return worst


def afresh(policy: Policy, texts: Sequence[tuple[int, ...]]) -> Tensor:
    """The logits in the states of some texts, each by a forward pass of its own."""
    with torch.no_grad():
        rows = [torch.tensor([text], device=policy.device) for text in texts]
        hidden = torch.stack([policy.hidden_states(row)[0, -1] for row in rows])
        return policy.step_logits(hidden, True)


def share_of_equal_answers(case: Case) -> float:
    """How many greedy answers without backspace are transformers' own."""
    decoding = DecodingConfig(max_new_tokens=case.num_appended, max_actions=16_384, temperature=0.0)
    ours = generate(case.policy, case.prompts, decoding, backspace=False, uniforms=UniformSource(0))
    stop = case.policy.space.eos_id
    theirs = case.transformers_decode(sample=False)
    equal = [
        each.actions == (row[: row.index(stop) + 1] if stop in row else row)
        for each, row in zip(ours, theirs, strict=True)
    ]
    return sum(equal) / len(equal)


def beside_transformers(case: Case, goal: float, deletions: float, rounds: int) -> Figure:
    """Row 7."""
    tapes = case.tapes(deletions)
    timed: dict[str, Callable[[], object]] = {
        "transformers": case.transformers_decode,
        "ours": lambda: case.decode(tapes),
    }
    ratios = compare(timed, "transformers", rounds=rounds, warm_up=1)
    return Figure(
        row="7",
        what=f"decoding, {deletions:.0%} deletions, {case.words}",
        measured=f"{ratios['ours']} of transformers' generate",
        goal=f"<= {goal:.2f}",
        is_met=ratios["ours"].median <= goal,
        is_clear=ratios["ours"].is_clear_of(goal),
        equality=f"greedy answers equal: {share_of_equal_answers(case):.0%}",
        control=control_of(ratios),
    )


def cost_of_deletions(case: Case, rounds: int) -> Figure:
    """Row 8."""
    without, with_some = case.tapes(0.0), case.tapes(0.1)
    timed: dict[str, Callable[[], object]] = {
        "without": lambda: case.decode(without),
        "with": lambda: case.decode(with_some),
    }
    ratios = compare(timed, "without", rounds=rounds, warm_up=1)
    num_deletions = sum(tape.count(case.policy.space.backspace_id) for tape in with_some)
    num_pushes = case.num_rows * case.num_appended
    return Figure(
        row="8",
        what=f"{num_deletions / num_pushes:.0%} deletions against none, {case.words}",
        measured=f"{ratios['with']}",
        goal="<= 1.05",
        is_met=ratios["with"].median <= 1.05,
        is_clear=ratios["with"].is_clear_of(1.05),
        equality=f"{num_pushes} tokens appended by both",
        control=control_of(ratios),
    )


def exactness(case: Case) -> Figure:
    """Row 9."""
    worst = worst_logit(case, case.tapes(0.3))
    equal = share_of_equal_answers(case)
    return Figure(
        row="9",
        what=f"decoding against reading afresh, 30% deletions, {case.words}",
        measured=f"largest difference of a logit {worst:.0e}",
        goal="<= 1e-4, greedy equal",
        is_met=worst <= 1e-4 and equal == 1.0,
        equality=f"greedy answers equal transformers': {equal:.0%}",
    )


def cost_of_adapter(with_adapter: Case, without: Case, rounds: int) -> Figure:
    """Row 11; an adapter of random weights, whose products cost what a trained one's do."""
    tapes = without.tapes(0.0)
    timed: dict[str, Callable[[], object]] = {
        "base": lambda: without.decode(tapes),
        "LoRA": lambda: with_adapter.decode(tapes),
        "unmerged": with_adapter.transformers_decode,
        "base by transformers": without.transformers_decode,
    }
    ratios = compare(timed, "base", rounds=rounds, warm_up=1)
    unmerged = ratios["unmerged"].median / ratios["base by transformers"].median
    return Figure(
        row="11",
        what=f"decoding with an adapter against the base model, merging included, {without.words}",
        measured=f"{ratios['LoRA']}; transformers unmerged {unmerged:.2f}",
        goal="<= 1.10",
        is_met=ratios["LoRA"].median <= 1.10,
        is_clear=ratios["LoRA"].is_clear_of(1.10),
        equality="greedy answers equal those with the adapter unmerged: "
        f"{share_of_equal_answers(with_adapter):.0%}",
        control=control_of(ratios),
    )


def figures() -> Iterator[Figure]:
    """Measures a tiny model, and SmolLM2 where it is prepared."""
    tiny = tiny_policy()
    small = "4 layers of 128, V 1,024"
    one, eight, many, crowd = (
        Case(f"{small}, {count} row{'s' * (count > 1)}", tiny, count, 16, 96)
        for count in (1, 8, 32, 128)
    )
    long = Case(f"{small}, 8 rows, prompts of 1,024", tiny, 8, 1024, 64)
    yield exactness(Case(f"{small}, 32 rows", tiny, 32, 16, 24))
    for case, goal in ((one, 0.6), (eight, 0.6), (many, 0.6), (long, 0.75)):
        yield beside_transformers(case, goal, 0.1, rounds=9)
    yield beside_transformers(crowd, 0.6, 0.1, rounds=5)
    for deletions in (0.0, 0.3):
        yield beside_transformers(eight, 0.6, deletions, rounds=9)
    yield cost_of_deletions(eight, rounds=11)
    yield cost_of_deletions(many, rounds=11)
    if not packaged_model.is_prepared(DEFAULT_DATA_DIR / "models"):
        return
    base, adapted = _smollm2("full", True), _smollm2("lora", True)
    yield exactness(Case("SmolLM2-135M, 4 rows", base, 4, 16, 8))
    large = Case("SmolLM2-135M, 8 rows", base, 8, 16, 16)
    yield beside_transformers(large, 1.0, 0.1, rounds=5)
    yield cost_of_deletions(large, rounds=5)
    words = "SmolLM2-135M, 1 row of 128"
    with_adapter, without = (Case(words, each, 1, 16, 128) for each in (adapted, base))
    yield cost_of_adapter(with_adapter, without, rounds=5)


def _smollm2(kind: str, backspace: bool) -> Policy:
    adapter = AdapterConfig.model_validate({"kind": kind})
    models_dir = DEFAULT_DATA_DIR / "models"
    policy = load_policy(SMOLLM2, adapter, backspace, seed=0, device="cpu", models_dir=models_dir)
    torch.manual_seed(0)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:  # 0 in a new adapter, which then changes nothing
            torch.nn.init.normal_(weight, std=0.01)
    return policy


def main() -> int:
    """Prints the rows."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    torch.set_num_threads(1)
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
