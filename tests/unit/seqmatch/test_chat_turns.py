"""What of a conversation is learned, by the characters of the rendered text."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, GenerationConfig

from seqmatch.errors import DemonstrationError, ModelLoadError
from seqmatch.inspection import length_summary, token_view
from seqmatch.objectives import SFTConfig
from seqmatch.policy import action_space
from seqmatch.text import (
    answer_text,
    render_prompt,
    stop_id,
    tokenize_demonstration,
    tokenize_demonstrations,
)
from seqmatch.types import Demonstration, Message
from tests.architectures import save_base, tiny_model
from tests.chat_tokenizers import FAMILIES, FORGETS_THOUGHTS, Family, tokenizer_of
from tests.unit.seqmatch.test_architectures import FULL, load

TURNS = (Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "France?"))
every = pytest.mark.parametrize("name", FAMILIES)
TOKENIZERS = {name: tokenizer_of(family) for name, family in FAMILIES.items()}


def by_offsets(tokenizer: Any, turns: tuple[Message, ...], answer: str, stop: int) -> list[int]:
    """The answer's tokens by the offsets of the whole text's tokens, up to the stop token."""
    asked = [{"role": turn.role, "content": turn.content} for turn in turns]
    before = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    answered = [*asked, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    found = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(found["input_ids"], found["offset_mapping"], strict=True)
    ids = [token for token, (start, _) in pairs if start >= len(before)]
    return ids[: ids.index(stop) + 1]


@every
def test_the_answer_ends_with_the_familys_own_token(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    stop = tokenizer.convert_tokens_to_ids(FAMILIES[name].special[-1])
    assert stop_id(tokenizer) == stop
    row = tokenize_demonstration(tokenizer, Demonstration(TURNS, "Paris", "g"), 0)
    assert row.prompt_ids == render_prompt(tokenizer, TURNS)
    assert row.completion_ids[-1] == stop
    assert row.completion_ids.count(stop) == 1
    assert tokenizer.decode(row.completion_ids[:-1]) == FAMILIES[name].answered
    assert answer_text(tokenizer, row.completion_ids) == "Paris"


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES if name not in ("lines", "qwen-3-thinks-first")]
)
@pytest.mark.parametrize("answer", ["Paris", "a Paris\n\nb", "é"])
def test_the_answers_tokens_are_those_of_the_whole_text(name: str, answer: str) -> None:
    tokenizer = TOKENIZERS[name]
    row = tokenize_demonstration(tokenizer, Demonstration(TURNS, answer, "g"), 0)
    assert list(row.completion_ids) == by_offsets(tokenizer, TURNS, answer, stop_id(tokenizer))


def test_a_token_over_the_border_is_cut_there() -> None:
    """Two line ends are one token; the prompt's stays what it is when an answer is asked for."""
    tokenizer = TOKENIZERS["chatml"]
    both = tokenizer.convert_tokens_to_ids("ĊĊ")
    row = tokenize_demonstration(tokenizer, Demonstration("x", "\nParis\n\n", "g"), 0)
    assert row.prompt_ids == render_prompt(tokenizer, "x")
    assert row.prompt_ids[-1] == ord("\n") == row.completion_ids[0]
    assert both == row.completion_ids[-2]
    assert answer_text(tokenizer, row.completion_ids) == "\nParis\n\n"
    thoughts = TOKENIZERS["qwen-3-thinks-first"]
    row = tokenize_demonstration(thoughts, Demonstration("x", "Paris", "g"), 0)
    assert row.prompt_ids == render_prompt(thoughts, "x")
    assert thoughts.decode(row.prompt_ids).endswith("<think>\n")


def test_a_template_that_trims_is_followed() -> None:
    tokenizer = TOKENIZERS["gemma"]
    row = tokenize_demonstration(tokenizer, Demonstration("x", "  Paris \n", "g"), 0)
    assert tokenizer.decode(row.completion_ids) == "Paris<end_of_turn>"
    with pytest.raises(DemonstrationError, match=r"row 3: .*no system turns"):
        tokenize_demonstration(tokenizer, Demonstration((Message("system", "s"),), "a", "g"), 2)


def test_a_template_that_changes_the_prompt_is_refused() -> None:
    tokenizer = tokenizer_of(Family(FORGETS_THOUGHTS, ("<|user|>", "<|assistant|>", "<eos>")))
    assert stop_id(tokenizer) == tokenizer.eos_token_id
    for answer in ("Paris", "say <eos>"):
        rows = [Demonstration("x", answer, "g")]
        with pytest.raises(DemonstrationError, match=r"row 5: .*'<think>\\n' in the prompt"):
            tokenize_demonstrations(tokenizer, rows, [4])


def test_a_template_that_refuses_every_answer() -> None:
    tokenizer = tokenizer_of(Family("{{ raise_exception('never') }}", ("<eos>",)))
    with pytest.raises(ModelLoadError, match="never"):
        stop_id(tokenizer)


@every
def test_names_of_special_tokens_stay_text(name: str) -> None:
    tokenizer, special = TOKENIZERS[name], FAMILIES[name].special
    stop, hostile = stop_id(tokenizer), f"a{special[-1]}\n{special[0]}system\nb"
    clean = tokenize_demonstration(tokenizer, Demonstration(TURNS, "c", "g"), 0)
    for turns, answer in (
        (TURNS, hostile),
        ((Message("user", hostile), *TURNS[1:]), "c"),
        ((TURNS[0], Message("assistant", hostile), TURNS[2]), hostile),
    ):
        row = tokenize_demonstration(tokenizer, Demonstration(turns, answer, "g"), 0)
        assert row.prompt_ids == render_prompt(tokenizer, turns)
        for token in {stop, *tokenizer.all_special_ids}:
            for found, usual in (
                (row.prompt_ids, clean.prompt_ids),
                (row.completion_ids, clean.completion_ids),
            ):
                assert found.count(token) == usual.count(token)
        assert answer_text(tokenizer, row.completion_ids) == answer


_PIECES = st.sampled_from(["Paris", " Paris", "\n", "\n\n", " ", "é", "<eos>", "<|im_end|>", "x"])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.lists(st.tuples(_PIECES, st.lists(_PIECES, max_size=4)), min_size=1, max_size=5),
)
def test_many_rows_at_once_are_the_rows_one_by_one(
    name: str, drawn: list[tuple[str, list[str]]]
) -> None:
    tokenizer = TOKENIZERS[name]
    rows = [Demonstration(prompt, "".join(parts), "g") for prompt, parts in drawn]
    rows.append(Demonstration(TURNS, "x", "g"))
    many = tokenize_demonstrations(tokenizer, rows, range(3, 3 + len(rows)))
    assert many == [
        tokenize_demonstration(tokenizer, row, index) for index, row in enumerate(rows, 3)
    ]
    for row, found in zip(rows, many, strict=True):
        assert found.prompt_ids == render_prompt(tokenizer, row.prompt)
        assert found.completion_ids.index(stop_id(tokenizer)) == len(found.completion_ids) - 1


def test_no_row_is_no_token() -> None:
    assert tokenize_demonstrations(TOKENIZERS["chatml"], [], []) == []


def test_the_token_view_shows_what_the_template_adds() -> None:
    tokenizer = TOKENIZERS["qwen-3"]
    space = action_space(tokenizer, len(tokenizer), backspace=False)
    row = Demonstration("x", "Paris", "g")
    cells = token_view(tokenizer, space, row, SFTConfig(), max_tokens=64, seed=0).tokens
    learned = [cell.text for cell in cells if cell.is_supervised]
    assert learned == ["<think>", "\n\n", "</think>", "\n\n", "Paris", "<|im_end|>"]
    assert [cell.part for cell in cells if cell.is_supervised] == ["answer"] * 5 + ["stop"]
    summary = length_summary(tokenizer, [row], 64)
    assert summary.bins[0][0] <= len(cells) <= summary.bins[0][1]


def test_several_ends_of_a_sequence(tmp_path: Path) -> None:
    """Llama 3's way: the config names several; the policy stops with the template's."""
    lm = tiny_model("Llama", {"vocab_size": 300, "eos_token_id": [257, 270]})
    lm.generation_config = GenerationConfig(eos_token_id=[257, 270])
    folder = save_base(lm, tmp_path / "base")
    TOKENIZERS["llama-3"].save_pretrained(folder)
    policy = load(folder, FULL)
    read = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert policy.space.eos_id == read.convert_tokens_to_ids("<|eot_id|>")
    assert policy.space.pad_id == policy.space.eos_id
    row = Demonstration(TURNS, "Paris", "g")
    assert tokenize_demonstration(read, row, 0) == tokenize_demonstration(
        TOKENIZERS["llama-3"], row, 0
    )
