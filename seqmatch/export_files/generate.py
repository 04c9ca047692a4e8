"""Answer a prompt with this policy, with and without the backspace action. Needs no SeqMatch.

    python generate.py --base BASE_MODEL --prompt "What is 2 + 3?"

BASE_MODEL is the folder or hub id of the model that the adapter belongs to; leave it out where this
folder has the whole model. Needs torch, transformers, safetensors and, for an adapter, peft. The
decoder is `custom_generate/` in the folder of the adapter or model; transformers runs its code.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent


def load(base: str | None) -> tuple[Any, Any, Path]:
    """Returns the model, its tokenizer, and the folder that has its decoder."""
    whole, adapter = HERE / "model", HERE / "adapter"
    place = str(whole) if whole.is_dir() else base
    if place is None:
        raise SystemExit("this folder has an adapter only: name its base model with --base")
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    if whole.is_dir():
        return model.eval(), tokenizer, whole
    from peft import PeftModel  # noqa: PLC0415  # not needed for a whole model

    return PeftModel.from_pretrained(model, str(adapter)).eval(), tokenizer, adapter


def prompt_ids(tokenizer: Any, prompt: str) -> list[int]:
    """Tokenises a prompt as in training: as one user turn where there is a chat template.

    A prompt that spells a special token is tokenised apart, so that it stays text.
    """

    def ids_of(text: str, **options: bool) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, **options)["input_ids"])

    if tokenizer.chat_template:
        special = {str(each) for each in tokenizer.added_tokens_decoder.values() if each.special}
        is_spelt = any(name in prompt for name in special)
        turns = [{"role": "user", "content": "\ue000" if is_spelt else prompt}]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        if not is_spelt:
            return ids_of(text)
        before, _, after = text.partition("\ue000")
        return ids_of(before) + ids_of(prompt, split_special_tokens=True) + ids_of(after)
    ids = ids_of(prompt, split_special_tokens=True)
    ids = ids if tokenizer.bos_token_id is None else [tokenizer.bos_token_id, *ids]
    return ids or [tokenizer.eos_token_id]


def main() -> None:
    """Prints an answer without backspace, and one with it where the policy has it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--base", help="folder or hub id of the base model")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--max-actions", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    settings = vars(parser.parse_args())
    prompt, base = settings.pop("prompt"), settings.pop("base")
    model, tokenizer, folder = load(base)
    ids = torch.tensor([prompt_ids(tokenizer, prompt)])
    has_backspace = (folder / "custom_generate" / "backspace.safetensors").exists()
    for backspace in (False, True)[: 1 + has_backspace]:
        found = model.generate(
            input_ids=ids,
            custom_generate=str(folder),
            trust_remote_code=True,
            backspace=backspace,
            return_dict_in_generate=True,
            **settings,
        )
        answer = found.sequences[0, ids.shape[1] :]
        text = tokenizer.decode(
            answer, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        name = "with backspace" if backspace else "without backspace"
        print(f"{name} ({int(found.num_deletions[0])} deletions): {text}")


if __name__ == "__main__":
    main()
