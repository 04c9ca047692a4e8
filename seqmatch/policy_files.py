"""The files of a saved policy: what is written beside the model's own, and what is accepted."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqmatch.config import AdapterConfig
from seqmatch.errors import ModelLoadError
from seqmatch.objectives import Frozen

MANIFEST = "seqmatch.json"
BACKSPACE = "backspace.safetensors"
ROW = "row"


class PolicyManifest(Frozen):
    """What of a policy does not stand in the files of transformers and PEFT."""

    format: Literal[1] = 1
    base_model: str
    adapter: AdapterConfig
    backspace: bool
    stop_id: int
    """The token that ends an answer."""


def write_policy_files(
    folder: Path,
    *,
    lm: Any,
    tokenizer: Any,
    backspace_row: nn.Parameter | None,
    manifest: PolicyManifest,
) -> None:
    """Writes a policy into a folder, which may exist; nothing but safetensors and JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    if manifest.adapter.kind == "lora":
        # The embeddings are the base model's; PEFT would ask the hub before deciding that itself.
        lm.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty template of a model card
    else:
        lm.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
    if backspace_row is not None:
        row = backspace_row.detach().cpu().contiguous()
        save_file({ROW: row}, folder / BACKSPACE)
    text = manifest.model_dump_json(indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> tuple[PolicyManifest, Tensor | None]:
    """Returns the manifest and the backspace row of a saved policy, after checking its files.

    Raises:
        ModelLoadError: A file is missing or damaged, or weights are there only in a format that
            could run code.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        manifest = PolicyManifest.model_validate(json.loads(text))
    except (OSError, ValueError, ValidationError) as error:
        raise ModelLoadError(f"{folder} is no saved policy: {MANIFEST}: {error}") from error
    weights = "adapter_model.safetensors" if manifest.adapter.kind == "lora" else "*.safetensors"
    if not [path for path in folder.glob(weights) if path.name != BACKSPACE]:
        raise ModelLoadError(f"{folder} has no {weights}; no other format of weights is read")
    if not manifest.backspace:
        return manifest, None
    try:
        return manifest, load_file(folder / BACKSPACE)[ROW]
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelLoadError(f"{folder} has no readable {BACKSPACE}: {error}") from error
