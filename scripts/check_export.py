"""Run a download's own instructions where there is no SeqMatch, and compare with our decoder.

    python3 -m venv ALONE
    ALONE/bin/pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 safetensors==0.8.0
    python -m scripts.check_export RUN_FOLDER --python ALONE/bin/python

RUN_FOLDER is a finished run's in the data directory (`seqmatch-data/runs/ID`). Its zip is unpacked
elsewhere, the Python code of its README runs there by the other interpreter, and the tokens of
every answer are compared with those of our decoder with the same seed, sampled and greedy.

In float64 all must be equal. In float32 two correct decoders may part ways: sums of another shape
round differently, and of SmolLM2's sampled actions about one in 20,000 lies so close to the border
of two tokens. In float64 it is rarer still, not impossible: transformers' norms are float32.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import UniformSource, generate, standing_tokens
from seqmatch.policy import Policy, load_saved_policy
from seqmatch.text import render_prompt

PROMPTS = ("123+456=", "7+85=", "What is the capital of France?", "Name a colour.")
TEMPERATURES = (1.0, 0.0)
_CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
_BEFORE = """
import sys
try:
    import seqmatch
except ImportError:
    pass
else:
    raise SystemExit("seqmatch is importable here, so this would show nothing")
"""
_AFTER = """
import json
assert not [name for name in sys.modules if name.partition(".")[0] == "seqmatch"]
print("FOUND", json.dumps(answers.tolist()))
"""


def card_code(
    folder: Path,
    prompts: Sequence[str],
    temperature: float,
    *,
    dtype: str = "float32",
    base: str | None = None,
) -> str:
    """Returns the Python code in an export's README for these prompts and this temperature.

    Args:
        folder: The unpacked export.
        prompts: What takes the place of the example's prompts.
        temperature: Added to the settings.
        dtype: Of the weights.
        base: What takes the place of the base model's name; None leaves it.
    """
    (code,) = _CODE.findall((folder / "README.md").read_text(encoding="utf-8"))
    code = _replaced(code, r"^prompts = \[.*", f"prompts = {list(prompts)!r}")
    code = _replaced(code, r"\bseed=0\b", f"seed=0, temperature={temperature}")
    code = _replaced(code, r'"float32"', f'"{dtype}"')
    if base is not None:
        code = _replaced(code, r"^BASE_MODEL = .*", f"BASE_MODEL = {base!r}")
    return code


def _replaced(code: str, pattern: str, new: str) -> str:
    """The code with the first place that fits replaced; there must be one."""
    found = re.search(pattern, code, re.MULTILINE)
    if found is None:
        raise ValueError(f"the README's code has no {pattern!r}")
    return code[: found.start()] + new + code[found.end() :]


def answers_alone(python: str, folder: Path, code: str) -> list[list[int]]:
    """Returns the tokens, padding included, that a README's code gives without seqmatch.

    Isolated (-I): neither a working folder nor PYTHONPATH is on the path of `python`.

    Raises:
        RuntimeError: It failed; the message has what it wrote.
    """
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(
            [Path(shutil.which(python) or python).absolute(), "-I", "-c", _BEFORE + code + _AFTER],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"HF_HOME": cache, "HF_HUB_OFFLINE": "1"},
        )
    if done.returncode != 0:
        raise RuntimeError(f"{python} failed in {folder}:\n{done.stderr}")
    tokens: list[list[int]] = json.loads(done.stdout.rpartition("FOUND ")[2])
    return tokens


def our_answers(policy: Policy, prompts: Sequence[str], temperature: float) -> list[list[int]]:
    """Returns the actions of our decoder with the settings of the README's code."""
    rendered = [render_prompt(policy.tokenizer, prompt) for prompt in prompts]
    decoding = DecodingConfig(temperature=temperature)
    found = generate(policy, rendered, decoding, backspace=True, uniforms=UniformSource(0))
    return [list(rollout.actions) for rollout in found]


def num_equal(alone: Sequence[Sequence[int]], actions: list[list[int]], policy: Policy) -> int:
    """Returns how many answers have what stands after our actions, and behind it padding alone."""
    fill = {policy.space.pad_id, policy.space.eos_id}
    pairs = [
        (found, list(standing_tokens(ours, policy.space.backspace_id)))
        for found, ours in zip(alone, actions, strict=True)
    ]
    return sum(
        list(found[: len(standing)]) == standing and fill.issuperset(found[len(standing) :])
        for found, standing in pairs
    )


def main() -> None:
    """Prints a line for each type and temperature; exits with 1 where float64 differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("--python", default=sys.executable, help="an interpreter without seqmatch")
    args = parser.parse_args()
    run: Path = args.run_folder.resolve()
    models_dir = run.parent.parent / "models"
    policy = load_saved_policy(run / "policy", device="cpu", models_dir=models_dir)
    base = None if policy.adapter.kind == "full" else str(models_dir / policy.base_model)
    (path,) = run.glob("*.zip")
    is_right = True
    with tempfile.TemporaryDirectory() as elsewhere:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(elsewhere)
        for dtype, temperature in itertools.product(("float64", "float32"), TEMPERATURES):
            actions = our_answers(policy.to(getattr(torch, dtype)), PROMPTS, temperature)
            code = card_code(Path(elsewhere), PROMPTS, temperature, dtype=dtype, base=base)
            alone = answers_alone(args.python, Path(elsewhere), code)
            found = num_equal(alone, actions, policy)
            is_right = is_right and (found == len(PROMPTS) or dtype == "float32")
            num_deletions = sum(row.count(policy.space.backspace_id) for row in actions)
            print(
                f"{dtype}, temperature {temperature:g}: {found} of {len(PROMPTS)} answers equal, "
                f"in {sum(map(len, actions))} actions of which {num_deletions} delete",
                flush=True,
            )
    sys.exit(0 if is_right else 1)


if __name__ == "__main__":
    main()
