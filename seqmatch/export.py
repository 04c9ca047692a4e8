"""The download of a run: one zip that is of use without SeqMatch."""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from seqmatch import __version__
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.durable_files import SCRATCH
from seqmatch.metrics import METRICS
from seqmatch.objectives import OBJECTIVES
from seqmatch.objectives.dispatch import settings_in_words
from seqmatch.policy import Policy, save_policy
from seqmatch.policy_files import BACKSPACE, MANIFEST

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member, so that equal content gives equal files."""


def export_run(
    policy: Policy,
    folder_zip: Path,
    *,
    config: RunConfig,
    dataset_sha256: str,
    metrics_csv: str,
    summary: Mapping[str, float],
) -> Path:
    """Writes the zip of a run and returns its path; an older file of that name is replaced whole.

    Content: `adapter/` (a PEFT folder) or `model/` (the whole model with its tokenizer),
    `backspace.safetensors` where the policy has the action, `seqmatch.json`, `config.json`,
    `dataset.sha256`, `metrics.csv`, a model card `README.md`, and `generate.py`.

    Args:
        policy: The policy to export.
        folder_zip: The file to write.
        config: Of the run.
        dataset_sha256: Content hash of the frozen demonstrations.
        metrics_csv: The run's curves.
        summary: The last value of each metric.

    Raises:
        OSError: The file could not be written.
    """
    folder_zip.parent.mkdir(parents=True, exist_ok=True)
    weights = "adapter" if policy.adapter.kind == "lora" else "model"
    texts = {
        "README.md": model_card(policy, config, dataset_sha256, summary),
        "config.json": config.model_dump_json(indent=2) + "\n",
        "dataset.sha256": dataset_sha256 + "\n",
        "metrics.csv": metrics_csv,
        "generate.py": (files("seqmatch") / "export_files" / "generate.py").read_text("utf-8"),
    }
    with tempfile.TemporaryDirectory(dir=folder_zip.parent, prefix=SCRATCH) as scratch_name:
        scratch = Path(scratch_name)
        save_policy(policy, scratch / weights)
        # They belong to our decoder, not to the folder that PEFT or transformers reads.
        for name in (BACKSPACE, MANIFEST):
            if (scratch / weights / name).exists():
                (scratch / weights / name).rename(scratch / name)
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8")
        unfinished = scratch / ".zip"
        _write_zip(scratch, unfinished)
        unfinished.replace(folder_zip)
    return folder_zip


def _write_zip(folder: Path, target: Path) -> None:
    members = sorted(path for path in folder.rglob("*") if path.is_file())
    with zipfile.ZipFile(target, "w") as archive:
        for path in members:
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH)
            # Weights hardly shrink; everything else does.
            is_weights = path.suffix == ".safetensors"
            info.compress_type = zipfile.ZIP_STORED if is_weights else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(info, "w", force_zip64=True) as sink:
                while block := source.read(1 << 20):
                    sink.write(block)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def model_card(
    policy: Policy, config: RunConfig, dataset_sha256: str, summary: Mapping[str, float]
) -> str:
    """Returns the model card: what it is, how to load it, how it was trained, what was measured."""
    known = BASE_MODELS.get(policy.base_model)
    front = {
        "base_model": policy.base_model,
        "library_name": "peft" if policy.adapter.kind == "lora" else "transformers",
        "tags": ["seqmatch", config.objective.kind],
    }
    parts = [
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---",
        f"# {_one_line(config.name) or 'A policy trained with SeqMatch'}",
        _description(policy, config),
        f"Base model: `{policy.base_model}`. Licence of its weights: "
        f"{known.licence if known else 'see the base model'}.",
        "## Use",
        _use(policy),
        "## Training",
        f"Demonstrations: content hash `{dataset_sha256}`. Every setting is in `config.json`, the "
        f"curves are in `metrics.csv`. Made with SeqMatch {__version__}.",
        "## Measured",
        _table(summary),
    ]
    return "\n\n".join(parts) + "\n"


def _description(policy: Policy, config: RunConfig) -> str:
    objective = config.objective
    trained = "a LoRA adapter" if policy.adapter.kind == "lora" else "all weights"
    title, settings = OBJECTIVES[objective.kind].title, settings_in_words(objective)
    how = f"{title} ({settings})" if settings else title
    text = f"Trained from demonstrations with {how}; {trained} were trained."
    text = text.replace("a LoRA adapter were", "a LoRA adapter was")
    if policy.backspace_row is None:
        return text + " The policy has no backspace action."
    return text + (
        " The policy can take back its last token: `backspace.safetensors` holds the one row of the"
        " unembedding that scores this action. Other runtimes ignore it and generate without."
    )


def _use(policy: Policy) -> str:
    if policy.adapter.kind == "full":
        load = 'model = AutoModelForCausalLM.from_pretrained("model")'
        command = 'python generate.py --prompt "..."'
    else:
        load = (
            "base = AutoModelForCausalLM.from_pretrained(BASE_MODEL)\n"
            'model = PeftModel.from_pretrained(base, "adapter")'
        )
        command = 'python generate.py --base BASE_MODEL --prompt "..."'
    return f"```python\n{load}\n```\n\nWith and without backspace:\n\n```\n{command}\n```"


def _table(summary: Mapping[str, float]) -> str:
    rows = [
        f"| {_cell(METRICS[name].title)} | {value:.4g} | {METRICS[name].unit} |"
        for name, value in sorted(summary.items())
        if name in METRICS
    ]
    return "\n".join(["| measure | last value | unit |", "| --- | ---: | --- |", *rows])


def _cell(text: str) -> str:
    # A bar would end the cell: "Mean |TD|".
    return text.replace("|", "\\|")


def _one_line(text: str) -> str:
    return " ".join(text.split())
