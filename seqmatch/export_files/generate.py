"""Answer prompts with this policy, with and without the backspace action. Needs no SeqMatch.

    python generate.py --base BASE_MODEL --prompt "What is 2 + 3?"

BASE_MODEL is the folder or hub id of the model that the adapter belongs to; leave it out where this
folder has the whole model. Needs torch, transformers, safetensors and, for an adapter, peft.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

HERE = Path(__file__).resolve().parent
WINDOW = "sliding_window"
"""Within it a window is full attention; beyond it no token could be taken back."""


def load(base: str | None) -> tuple[Any, Any, torch.Tensor | None]:
    """Returns the model, its tokenizer, and the backspace row or None."""
    whole = HERE / "model"
    place = str(whole) if whole.is_dir() else base
    if place is None:
        raise SystemExit("this folder has an adapter only: name its base model with --base")
    tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    if not whole.is_dir():
        from peft import PeftModel  # noqa: PLC0415  # not needed for a whole model

        model = PeftModel.from_pretrained(model, str(HERE / "adapter"))
    file = HERE / "backspace.safetensors"
    return model.eval(), tokenizer, load_file(file)["row"] if file.exists() else None


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


@torch.no_grad()
def answer(
    model: Any, ids: list[int], row: torch.Tensor | None, stop_id: int, args: argparse.Namespace
) -> tuple[list[int], int]:
    """Samples one episode; returns the tokens that stand and the number of backspaces.

    The state is the visible prefix. A backspace shortens the cache by one, and the logits of the
    uncovered prefix are those that were computed when it was first reached.
    """
    limits = (getattr(model.config, key, None) for key in ("max_position_embeddings", WINDOW))
    context = min(filter(None, limits), default=10**9)
    room = min(args.max_new_tokens, context - len(ids))
    if room < 1:
        raise SystemExit(f"a prompt of {len(ids)} tokens; the model reads {context} tokens in all")
    generator = torch.Generator().manual_seed(args.seed)
    cache = DynamicCache(config=model.config)
    fed: torch.Tensor | None = torch.tensor([ids])
    stack: list[int] = []
    depths: list[torch.Tensor] = []  # the logits at every depth of the stack
    banned: list[set[int]] = [set()]
    num_backspaces = 0
    for step in range(args.max_actions):
        if fed is not None:
            output = model(
                input_ids=fed, past_key_values=cache, use_cache=True, output_hidden_states=True
            )
            hidden = output.hidden_states[-1][0, -1]
            logits = output.logits[0, -1].float()
            score = torch.tensor([-torch.inf]) if row is None else (hidden @ row)[None]
            depths.append(torch.cat([logits, score]))
        logits = depths[-1].clone()
        last = args.max_actions - step <= min(args.max_new_tokens, args.max_actions // 4)
        if not stack or last:
            logits[-1] = -torch.inf
        if args.temperature == 0:
            logits[list(banned[-1])] = -torch.inf  # greedy decoding must not repeat a mistake
            action = int(logits.argmax())
        else:
            probabilities = (logits / args.temperature).softmax(0)
            action = int(torch.multinomial(probabilities, 1, generator=generator))
        if action == len(logits) - 1:
            num_backspaces += 1
            depths.pop()
            banned.pop()
            banned[-1].add(stack.pop())
            cache.crop(-1)
            fed = None
            continue
        stack.append(action)
        banned.append(set())
        if action == stop_id or len(stack) == room:
            break
        fed = torch.tensor([[action]])
    return stack, num_backspaces


def main() -> None:
    """Prints an answer without backspace, and one with it where the policy has it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--base", help="folder or hub id of the base model")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--max-actions", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, tokenizer, row = load(args.base)
    stop_id = json.loads((HERE / "seqmatch.json").read_text(encoding="utf-8"))["stop_id"]
    ids = prompt_ids(tokenizer, args.prompt)
    rows = [("without backspace", None), ("with backspace", row)][: 1 if row is None else 2]
    for name, used in rows:
        stack, num_backspaces = answer(model, ids, used, stop_id, args)
        text = tokenizer.decode(stack, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        print(f"{name} ({num_backspaces} deletions): {text}")


if __name__ == "__main__":
    main()
