"""The download of a run: one zip that is of use without SeqMatch."""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from seqmatch import __version__
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.durable_files import SCRATCH
from seqmatch.exported_decoder import FOLDER as DECODER
from seqmatch.exported_decoder import write_decoder
from seqmatch.metrics import METRICS
from seqmatch.objectives import OBJECTIVES
from seqmatch.objectives.dispatch import settings_in_words
from seqmatch.policy import Policy, save_policy
from seqmatch.policy_files import BACKSPACE

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

    Content: `adapter/` (a PEFT folder) or `model/` (the whole model with its tokenizer), in either
    `custom_generate/` (`seqmatch.exported_decoder`), `config.json`, `dataset.sha256`,
    `metrics.csv`, a model card `README.md`, and `generate.py`, a command over all of it.

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
        write_decoder(scratch / weights, policy.max_positions)
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
        f" The policy can take back its last token: `{DECODER}/{BACKSPACE}` holds the one row of"
        " the unembedding that scores this action. Other runtimes ignore it and generate without."
    )


def _use(policy: Policy) -> str:
    is_whole = policy.adapter.kind == "full"
    folder = "model" if is_whole else "adapter"
    needed = "torch, transformers and safetensors" + ("" if is_whole else ", and peft")
    command = f'python generate.py {"" if is_whole else "--base BASE_MODEL "}--prompt "..."'
    code = "\n".join([*_loading(policy), *_tokenising(policy.tokenizer), _ANSWERING])
    return "\n\n".join(
        [
            f"From the folder of this file, with {needed}:",
            f"```python\n{code.replace('FOLDER', folder)}\n```",
            _DECODER_NOTE.replace("FOLDER", folder),
            "As a command, without backspace and with it:",
            f"```\n{command}\n```",
        ]
    )


_ANSWERING = """\
found = model.generate(
    **inputs, custom_generate="FOLDER", trust_remote_code=True, seed=0, max_new_tokens=64
)
answers = found[:, inputs["input_ids"].shape[1] :]
print(tokenizer.batch_decode(answers, skip_special_tokens=True))"""
_DECODER_NOTE = f"""\
`trust_remote_code=True` lets transformers run `FOLDER/{DECODER}/generate.py`, which decodes with \
backspace where the policy has it; look at it first. It takes `seed`, `temperature` (default 1; 0 \
takes the likeliest action), `top_k`, `top_p`, `min_p`, `stop_strings` (with \
`tokenizer`), `max_new_tokens`, `max_actions`, \
`backspace` (False decodes without) and `return_dict_in_generate` (True adds the actions and the \
number of deletions), and refuses what else `generate` knows. The folder `FOLDER` can be moved \
alone. Without `custom_generate` the same weights answer as any other model, without backspace."""


def _loading(policy: Policy) -> list[str]:
    """The lines of Python that load tokenizer and model."""
    imported = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    load = (
        'tokenizer = AutoTokenizer.from_pretrained({0}, padding_side="left")\n'
        'model = AutoModelForCausalLM.from_pretrained({0}, dtype="float32")'
    )
    if policy.adapter.kind == "full":
        return [imported, "", load.format('"model"')]
    return [
        "from peft import PeftModel",
        imported,
        "",
        f"BASE_MODEL = {json.dumps(policy.base_model)}  # or its folder",
        load.format("BASE_MODEL"),
        'model = PeftModel.from_pretrained(model, "adapter")',
    ]


def _tokenising(tokenizer: Any) -> list[str]:
    """The lines of Python that give prompts the tokens that they had in training."""
    lines = ['prompts = ["a prompt", "another one"]']
    if tokenizer.pad_token is None:
        lines.append("tokenizer.pad_token = tokenizer.eos_token")
    if tokenizer.chat_template:
        return [
            *lines,
            'turns = [[{"role": "user", "content": prompt}] for prompt in prompts]',
            "inputs = tokenizer.apply_chat_template(",
            "    turns, add_generation_prompt=True, padding=True, "
            'return_dict=True, return_tensors="pt"',
            ")",
        ]
    if tokenizer.bos_token is not None:
        lines.append("prompts = [tokenizer.bos_token + prompt for prompt in prompts]")
    options = 'add_special_tokens=False, padding=True, return_tensors="pt"'
    return [*lines, f"inputs = tokenizer(prompts, {options})"]


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
