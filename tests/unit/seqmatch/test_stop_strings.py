"""Answers that end at a text."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import generate
from seqmatch.decoding.stop_strings import has_stop_string
from seqmatch.decoding.uniforms import UniformSource
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.text import answer_text
from tests.tiny_models import policy_of, tiny_llama


def word_tokenizer() -> Any:
    """Byte-level, with two longer tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = ["ab", "cd", "abcd"]
    vocab = {symbol: at for at, symbol in enumerate([*alphabet, *merged])}
    backend = Tokenizer(BPE(vocab=vocab, merges=[("a", "b"), ("c", "d"), ("ab", "cd")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def first_end(tokenizer: Any, text: str, stops: list[str]) -> int | None:
    """After how many tokens of the text the answer ends."""
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    for count in range(1, len(tokens) + 1):
        if has_stop_string(tokenizer, tokens[:count], stops):
            return count
    return None


@pytest.mark.parametrize(
    ("text", "stops", "count"),
    [
        ("one\n\ntwo", ["\n\n"], 5),
        ("one\ntwo", ["\n\n"], None),
        ("naïve €uro", ["€"], 10),  # 3 bytes after "naïve ", which is 7
        ("x" * 300 + "END.", ["STOP", "END"], 303),
        ("anything", [], None),
    ],
)
def test_bytes_end_where_the_text_is_complete(
    text: str, stops: list[str], count: int | None
) -> None:
    assert first_end(byte_tokenizer(), text, stops) == count


def test_a_text_in_the_middle_of_a_token_ends_with_it() -> None:
    tokenizer = word_tokenizer()
    assert len(tokenizer("xabcd").input_ids) == 2
    assert first_end(tokenizer, "xabcdx", ["bc"]) == 2
    assert first_end(tokenizer, "abab", ["ba"]) == 2


def test_special_tokens_are_not_text() -> None:
    tokenizer = byte_tokenizer()
    assert not has_stop_string(tokenizer, [tokenizer.eos_token_id], ["eos", "<"])


def test_generation_ends_there_and_keeps_the_text() -> None:
    policy = policy_of(tiny_llama(vocab_size=259))
    whole = DecodingConfig(max_new_tokens=40, max_actions=200, temperature=3.0)
    prompts = [(65,), (66, 67)] * 4

    def answers(decoding: DecodingConfig) -> list[Any]:
        return generate(policy, prompts, decoding, backspace=True, uniforms=UniformSource(1))

    found = answers(whole)
    # A byte that two of the answers write at some time, the second of them perhaps taking it back.
    text = answer_text(policy.tokenizer, [a for a in found[0].actions[:20] if a < 128])
    stop = text[-1]
    shorter = answers(whole.model_copy(update={"stop_strings": f"|{stop}"}))
    num_ended = 0
    for before, after in zip(found, shorter, strict=True):
        assert before.actions[: len(after.actions)] == after.actions
        if len(after.actions) < len(before.actions):
            num_ended += 1
            assert after.is_finished
            assert answer_text(policy.tokenizer, after.actions[-1:]) == stop
    assert num_ended


@pytest.mark.parametrize(
    ("given", "stops"),
    [("", ()), ("\\n\\n|END", ("\n\n", "END")), ("||a", ("a",)), ("a b|\\t", ("a b", "\t"))],
)
def test_the_setting(given: str, stops: tuple[str, ...]) -> None:
    assert DecodingConfig(stop_strings=given).stops == stops


@pytest.mark.parametrize("given", ["x" * 65, "|".join("abcdefghi")])
def test_too_many_or_too_long_ones_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="up to 8 texts of up to 64 characters"):
        DecodingConfig(stop_strings=given)
