"""The byte-level Llama that is built from a config and trained from random weights.

Grouped-query attention and rotary positions, so that what holds for it holds for real Llamas; tied
embeddings, since at this size a second table of 259 rows only overfits.
"""

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from seqmatch.new_weights import seeded_weights

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
NUM_BYTES = 256


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Returns the tokenizer whose id of a byte is the byte; 256, 257, 258 are pad, bos and eos.

    It is a byte-level BPE without merges, so any text of any script round-trips and the saved
    tokenizer.json is read by every runtime.
    """
    vocab = {_byte_symbol(byte): byte for byte in range(NUM_BYTES)}
    backend = Tokenizer(BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([PAD, BOS, EOS])  # in the order of their ids
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def byte_llama_config() -> LlamaConfig:
    """Returns the config of `byte-llama-small`: 3 layers, 96 wide, 6 heads on 2 KV heads."""
    return LlamaConfig(
        vocab_size=NUM_BYTES + 3,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=NUM_BYTES,
        bos_token_id=NUM_BYTES + 1,
        eos_token_id=NUM_BYTES + 2,
        attention_dropout=0.0,
    )


def byte_llama(seed: int) -> LlamaForCausalLM:
    """Returns the model with the random weights of `seed`; the global generator is left alone."""
    with seeded_weights(seed):
        return LlamaForCausalLM(byte_llama_config()).float()


def _byte_symbol(byte: int) -> str:
    """The printable character by which byte-level BPE writes this byte (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    others = [other for other in range(NUM_BYTES) if other not in printable]
    return chr(NUM_BYTES + others.index(byte))
