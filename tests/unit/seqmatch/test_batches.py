"""Drawing rows: passes over the data, the cursor, noise tokens and held-out rows."""

from collections import Counter
from pathlib import Path

import pytest

from seqmatch.batches import (
    draw_indices,
    drawn_trajectories,
    held_out_rows,
    noise_ids,
    prepare_rows,
)
from seqmatch.config import RunConfig
from seqmatch.config_flags import merge_settings, run_config
from seqmatch.demonstrations import split
from seqmatch.errors import ConfigError
from seqmatch.examples import EXAMPLES
from seqmatch.objectives import CorruptionConfig
from seqmatch.policy import Policy, load_policy
from seqmatch.reporting import NullReporter
from seqmatch.seeding import generator
from seqmatch.types import Demonstration

DEMONSTRATIONS = EXAMPLES["arithmetic"].load()[:60]


def _config(**changes: object) -> RunConfig:
    base = {"data": {"dataset": "x"}, "adapter": {"kind": "full"}}
    return run_config(merge_settings(base, changes))


@pytest.fixture(scope="module")
def policy() -> Policy:
    return _policy(backspace=True)


def _policy(*, backspace: bool) -> Policy:
    adapter = _config().adapter
    return load_policy(
        "byte-llama-small", adapter, backspace, seed=0, device="cpu", models_dir=Path("none")
    )


def test_every_pass_draws_every_row_once() -> None:
    drawn = [index for at in range(0, 30, 5) for index in draw_indices(10, at, 5, seed=0)]

    for start in (0, 10, 20):
        assert sorted(drawn[start : start + 10]) == list(range(10))
    assert drawn[:10] != drawn[10:20]


def test_draws_depend_on_the_cursor_and_not_on_the_batch_size() -> None:
    one_by_one = [draw_indices(7, at, 1, seed=3)[0] for at in range(25)]

    assert draw_indices(7, 0, 25, seed=3) == one_by_one
    assert draw_indices(7, 5, 11, seed=3) == one_by_one[5:16]
    assert draw_indices(7, 0, 25, seed=4) != one_by_one


def test_a_batch_larger_than_the_data_spans_passes() -> None:
    assert Counter(draw_indices(3, 0, 9, seed=0)) == {0: 3, 1: 3, 2: 3}


def test_training_and_held_out_rows_share_no_prompt(policy: Policy) -> None:
    config = _config()

    rows = prepare_rows(config, DEMONSTRATIONS, policy, NullReporter())

    held_out = {each.prompt for each in rows.held_out.demonstrations}
    assert len(rows.train) + len(rows.held_out.tokenized) == len(DEMONSTRATIONS)
    assert not held_out & {DEMONSTRATIONS[row.index].prompt for row in rows.train}
    assert rows.held_out == held_out_rows(config, DEMONSTRATIONS, policy)
    for row, demonstration in zip(
        rows.held_out.tokenized, rows.held_out.demonstrations, strict=True
    ):
        assert DEMONSTRATIONS[row.index] is demonstration


class _Events(NullReporter):
    """Keeps what a person should know."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def event(self, level: str, code: str, message: str) -> None:
        self.events.append((code, message))


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_held_out_rows_over_the_limit_are_told_of_too(policy: Policy, too_long: str) -> None:
    reporter = _Events()
    config = _config(data={"dataset": "x", "max_tokens": 12, "too_long": too_long})
    rows = [Demonstration(f"{n}?", "9" * (20 if n % 2 else 3), group=f"{n}") for n in range(60)]
    _, held_out = split(rows, config.data.heldout_fraction, config.data.split_seed)
    num_long = sum(index % 2 for index in held_out)

    prepare_rows(config, rows, policy, reporter)

    told = dict(reporter.events)["held_out_rows_over_limit"]
    assert 0 < num_long < len(held_out)
    assert f"{num_long} of {len(held_out)} rows have more than 12 tokens" in told
    assert (f"{num_long} were left out" in told) == (too_long == "drop")


def test_noise_tokens_are_those_of_the_text(policy: Policy) -> None:
    corruption = CorruptionConfig(alphabet="token_set", token_set="0110 ")

    assert noise_ids(CorruptionConfig(), policy) is None
    assert noise_ids(CorruptionConfig(alphabet="model_top_k"), policy) is None
    found = noise_ids(corruption, policy)
    assert found is not None
    assert policy.tokenizer.decode(list(found)) == "01 "


def test_a_token_set_of_nothing_pushable_is_refused(policy: Policy) -> None:
    corruption = CorruptionConfig.model_construct(alphabet="token_set", token_set="")

    with pytest.raises(ConfigError, match="no token that noise may push"):
        noise_ids(corruption, policy)


@pytest.mark.parametrize("backspace", [True, False])
@pytest.mark.parametrize("alphabet", ["vocabulary", "model_top_k"])
def test_noise_comes_with_backspace_only(backspace: bool, alphabet: str) -> None:
    policy = _policy(backspace=backspace)
    noise = {"rate": 0.5, "burst": 2, "alphabet": alphabet}
    config = _config(objective={"kind": "sft", "corruption": noise})
    rows = prepare_rows(config, DEMONSTRATIONS, policy, NullReporter())

    drawn = [
        drawn_trajectories(
            rows,
            range(20),
            policy,
            config.objective.corruption,
            generator(0, "c", 1),
            max_positions=1000,
        )
        for _ in range(2)
    ]

    num_backspaces = sum(policy.space.backspace_id in each.pushes for each in drawn[0])
    assert drawn[0] == drawn[1]
    assert (num_backspaces > 5) is backspace
