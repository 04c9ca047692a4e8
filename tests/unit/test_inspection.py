"""The token view shows the trajectory that training draws; lengths are counted as they are."""

from itertools import pairwise
from typing import Any

import pytest

from seqmatch.action_space import ActionSpace
from seqmatch.errors import ConfigError, DemonstrationError
from seqmatch.inspection import BACKSPACE_TEXT, length_bins, length_summary, token_view
from seqmatch.objectives import SFTConfig
from seqmatch.objectives.base import CorruptionConfig
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.types import Demonstration

SUM = Demonstration("12+34=", "46", "g")
NOISE = CorruptionConfig(rate=0.5, alphabet="token_set", token_set="0123456789")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def space_of(tokenizer: Any, *, has_backspace: bool) -> ActionSpace:
    specials = frozenset(tokenizer.all_special_ids)
    return ActionSpace(
        vocab_size=len(tokenizer),
        eos_id=tokenizer.eos_token_id,
        pad_id=tokenizer.pad_token_id,
        bos_id=tokenizer.bos_token_id,
        has_backspace=has_backspace,
        unpushable=specials,
    )


def test_a_clean_row_is_prompt_answer_and_stop(tokenizer: Any) -> None:
    space = space_of(tokenizer, has_backspace=False)
    cells = token_view(tokenizer, space, SUM, SFTConfig(), max_tokens=32, seed=0).tokens
    assert [cell.part for cell in cells] == ["prompt"] * 7 + ["answer", "answer", "stop"]
    assert "".join(cell.text for cell in cells[1:-1]) == "12+34=46"
    assert [cell.is_supervised for cell in cells] == [False] * 7 + [True] * 3
    assert all(cell.label_text == cell.text for cell in cells[7:])
    assert cells[-1].id == space.eos_id


@pytest.mark.parametrize("seed", range(8))
def test_mistakes_and_their_backspaces_are_shown(tokenizer: Any, seed: int) -> None:
    space = space_of(tokenizer, has_backspace=True)
    objective = SFTConfig(backspace=True, corruption=NOISE)
    cells = token_view(tokenizer, space, SUM, objective, max_tokens=32, seed=seed).tokens
    standing: list[str] = []
    for at, cell in enumerate(cells[7:], 7):
        if cell.part == "noise":
            assert cells[at + 1].part == "backspace"
            assert cell.text in "0123456789"
            assert cell.text != cell.label_text == cells[at + 2].text
            assert cell.is_supervised
        if cell.part == "backspace":
            assert (cell.text, cell.label_text) == (BACKSPACE_TEXT, BACKSPACE_TEXT)
            assert cell.id == space.backspace_id
            standing.pop()
        elif cell.part != "stop":
            standing.append(cell.text)
    assert "".join(standing) == "46"


def test_bursts_are_shown_as_they_are_trained(tokenizer: Any) -> None:
    space = space_of(tokenizer, has_backspace=True)
    noise = CorruptionConfig(rate=0.5, burst=3)
    objective = SFTConfig(backspace=True, corruption=noise)
    views = [
        token_view(tokenizer, space, SUM, objective, max_tokens=32, seed=seed) for seed in range(8)
    ]
    later = [
        cell
        for view in views
        for before, cell in pairwise(view.tokens)
        if before.part == cell.part == "noise"
    ]
    assert later
    assert all(cell.is_supervised and cell.label_text == BACKSPACE_TEXT for cell in later)


def test_mistakes_of_the_policy_itself_are_not_made_up(tokenizer: Any) -> None:
    space = space_of(tokenizer, has_backspace=True)
    objective = SFTConfig(backspace=True, corruption=CorruptionConfig(alphabet="model_top_k"))
    with pytest.raises(ConfigError, match="tokenizer only"):
        token_view(tokenizer, space, SUM, objective, max_tokens=32, seed=0)


def test_some_seed_draws_a_mistake(tokenizer: Any) -> None:
    space = space_of(tokenizer, has_backspace=True)
    objective = SFTConfig(backspace=True, corruption=NOISE)
    views = [
        token_view(tokenizer, space, SUM, objective, max_tokens=32, seed=seed) for seed in range(8)
    ]
    assert any(cell.part == "noise" for view in views for cell in view.tokens)
    assert len(set(views)) > 1


def test_a_cut_row_shows_that_its_stop_is_not_trained(tokenizer: Any) -> None:
    space = space_of(tokenizer, has_backspace=False)
    row = Demonstration("ab", "cdefgh", "g")
    cells = token_view(tokenizer, space, row, SFTConfig(), max_tokens=6, seed=0).tokens
    assert (cells[-1].part, cells[-1].is_supervised, cells[-1].label_text) == ("stop", False, "e")
    with pytest.raises(DemonstrationError, match="row 1: the prompt has 3 tokens"):
        token_view(tokenizer, space, row, SFTConfig(), max_tokens=3, seed=0)


def test_lengths_are_summed_up(tokenizer: Any) -> None:
    rows = [Demonstration("p", "a" * length, str(length)) for length in (1, 2, 30)]
    summary = length_summary(tokenizer, rows, max_tokens=8)
    assert summary.num_rows == sum(count for *_, count in summary.bins) == 3
    assert summary.bins[0] == (4, 5, 2)
    assert (summary.num_too_long, summary.num_unsupervised, summary.num_stop_trained) == (1, 0, 2)
    assert summary.refusal == ""


def test_a_set_that_never_trains_the_stop_token_says_why(tokenizer: Any) -> None:
    rows = [Demonstration("p", "a" * 20, str(at)) for at in range(3)]
    summary = length_summary(tokenizer, rows, max_tokens=8)
    assert summary.num_stop_trained == 0
    assert "stop token is never trained" in summary.refusal


@pytest.mark.parametrize("lengths", [[5], [1, 24], [1, 25], [3, 900], [17, 100_000], []])
def test_bins_cover_every_length_once(lengths: list[int]) -> None:
    bins = length_bins(lengths)
    assert sum(count for *_, count in bins) == len(lengths)
    assert len(bins) <= 25
    for (_, last, _), (first, _, _) in pairwise(bins):
        assert first == last + 1
    for length in lengths:
        assert any(first <= length <= last and count for first, last, count in bins)
