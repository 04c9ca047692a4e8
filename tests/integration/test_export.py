"""The downloaded zip, used as a stranger would: in a process that cannot import seqmatch."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from scripts.check_export import answers_alone, card_code, num_equal, our_answers
from seqmatch.config import AdapterConfig, DataConfig, RunConfig
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import UniformSource, generate
from seqmatch.export import export_run
from seqmatch.objectives import SequenceMatchConfig
from seqmatch.policy import Policy, load_policy
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.text import answer_text, render_prompt
from tests.tiny_models import row_of, tiny_llama

PROMPTS = ["12+3=", "1=", "a longer prompt, to be padded to", "", "0"]
DECODER = (
    "errors.py",
    "generate.py",
    "sampling.py",
    "settings.py",
    "stop_strings.py",
    "transform.py",
    "uniforms.py",
)
ALONE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("seqmatch", "storage", "pages"):
            raise ImportError("this process must not import " + name)
sys.meta_path.insert(0, Refuse())
try:
    import seqmatch
except ImportError:
    pass
else:
    raise SystemExit("seqmatch is importable")
"""
PLAIN_LOGITS = """
import torch
logits = model(torch.tensor([[1, 2, 3]])).logits[0, -1, :5]
torch.testing.assert_close(logits, torch.tensor({expected}), atol=1e-5, rtol=1e-5)
"""
TRUST = """
for answer in ({"trust_remote_code": False}, {}):
    try:
        model.generate(**inputs, custom_generate="model", seed=0, **answer)
    except ValueError as error:
        assert "Please pass the argument `trust_remote_code=True`" in str(error), error
    else:
        raise SystemExit("code was run that nobody trusted")
own = AutoModelForCausalLM.from_pretrained("model", dtype="float32", trust_remote_code=True)
assert own.generate(**inputs, seed=0, temperature=1.0).tolist() == found.tolist()
"""
RUN_SCRIPT = """
import runpy
sys.argv = sys.argv[1:]
runpy.run_path("generate.py", run_name="__main__")
"""


def run_alone(folder: Path, code: str, *arguments: str) -> str:
    """Isolated (-I): neither the working folder nor PYTHONPATH is on the path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE + code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"HF_HOME": str(folder.parent / "cache")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny_llama(vocab_size=259).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def exported(policy: Policy, tmp_path: Path, adapter: AdapterConfig) -> tuple[Path, Path]:
    config = RunConfig(
        name="Sums\nof numbers",
        base_model=policy.base_model,
        data=DataConfig(dataset="d" * 64),
        objective=SequenceMatchConfig(),
        adapter=adapter,
    )
    path = export_run(
        policy,
        tmp_path / "exports" / "run.zip",
        config=config,
        dataset_sha256="d" * 64,
        metrics_csv="step,name,value\n1,train/loss,2.5\n",
        summary={"eval/exact_match": 0.5, "eval/td": 0.25, "train/loss": 2.5},
    )
    folder = tmp_path / "unpacked"
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    assert RunConfig.model_validate_json((folder / "config.json").read_text()) == config
    assert (folder / "dataset.sha256").read_text().strip() == "d" * 64
    assert (folder / "metrics.csv").read_text().startswith("step,name,value")
    card = (folder / "README.md").read_text()
    assert "# Sums of numbers" in card
    assert "| Exact match | 0.5 | share |" in card
    assert r"| Mean \|TD\|, held-out | 0.25 | nats |" in card
    return path, folder


def shaken(policy: Policy) -> Policy:
    """With weights that training could have given, and a backspace that is used."""
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in policy.trainable_parameters().values():
            weight.add_(torch.randn_like(weight) * 0.2)
        row_of(policy).add_(torch.randn_like(row_of(policy)))
    return policy


def greedy(policy: Policy, prompt: str, *, backspace: bool) -> tuple[str, int]:
    (rollout,) = generate(
        policy,
        [render_prompt(policy.tokenizer, prompt)],
        DecodingConfig(temperature=0.0, max_new_tokens=12, max_actions=60),
        backspace=backspace,
        uniforms=UniformSource(0),
    )
    stack: list[int] = []
    for action in rollout.actions:
        if action == policy.space.backspace_id:
            stack.pop()
        else:
            stack.append(action)
    num_backspaces = rollout.actions.count(policy.space.backspace_id)
    return answer_text(policy.tokenizer, stack), num_backspaces


def check_script(folder: Path, policy: Policy, *base: str) -> None:
    limits = ["--max-new-tokens", "12", "--max-actions", "60"]
    printed = run_alone(
        folder,
        RUN_SCRIPT,
        "generate.py",
        *["--prompt", "12+3=", "--temperature", "0", *limits, *base],
    )
    plain, _ = greedy(policy, "12+3=", backspace=False)
    edited, num_backspaces = greedy(policy, "12+3=", backspace=True)
    assert f"without backspace (0 deletions): {plain}\n" in printed
    assert f"with backspace ({num_backspaces} deletions): {edited}\n" in printed


def decoder_files(folder: str) -> set[str]:
    others = ("backspace.safetensors", "requirements.txt", "seqmatch.json")
    return {f"{folder}/custom_generate/{name}" for name in (*DECODER, *others)}


def check_readme(folder: Path, policy: Policy, then: str, base: str | None = None) -> None:
    """The Python code of the model card, on a batch of prompts of different lengths."""
    ours = our_answers(policy, PROMPTS, 1.0)
    code = card_code(folder, PROMPTS, 1.0, base=base)

    alone = answers_alone(sys.executable, folder, code + then)

    assert num_equal(alone, ours, policy) == len(PROMPTS)
    assert sum(actions.count(policy.space.backspace_id) for actions in ours) > 3


def test_an_adapter_loads_in_plain_peft(base_folder: Path, tmp_path: Path) -> None:
    adapter = AdapterConfig(kind="lora", rank=2, scaling=4)
    policy = shaken(
        load_policy(
            str(base_folder),
            adapter,
            True,
            seed=1,
            device="cpu",
            models_dir=tmp_path,
            allowed=[str(base_folder)],
        )
    )
    path, folder = exported(policy, tmp_path, adapter)
    names = set(zipfile.ZipFile(path).namelist())
    assert names == {
        *("README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
        *("config.json", "dataset.sha256", "generate.py", "metrics.csv"),
        *decoder_files("adapter"),
    }
    with torch.no_grad():
        expected = policy.lm(input_ids=torch.tensor([[1, 2, 3]])).logits[0, -1, :5]
    check_script(folder, policy, "--base", str(base_folder))
    then = PLAIN_LOGITS.format(expected=expected.tolist())
    check_readme(folder, policy, then, str(base_folder))


def test_a_model_from_scratch_is_exported_whole(tmp_path: Path) -> None:
    adapter = AdapterConfig(kind="full")
    policy = load_policy(
        "byte-llama-small", adapter, True, seed=1, device="cpu", models_dir=tmp_path
    )
    path, folder = exported(shaken(policy), tmp_path, adapter)
    assert (folder / "model" / "tokenizer.json").exists()
    assert decoder_files("model") <= set(zipfile.ZipFile(path).namelist())
    first = path.read_bytes()
    check_script(folder, policy)
    check_readme(folder, policy, TRUST)
    again, _ = exported(policy, tmp_path, adapter)
    assert again.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["run.zip"]
