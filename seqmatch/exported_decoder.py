"""The decoder that goes into an export, as a `custom_generate` folder of transformers.

Its Python files are the ones of this package, so that an export chooses actions by the very code
that we do: `export_files/custom_generate/generate.py` and, of what it imports of seqmatch, the
files themselves, with imports of seqmatch made relative.
"""

import json
import re
from importlib.resources import files
from pathlib import Path

from seqmatch.policy_files import BACKSPACE, MANIFEST

FOLDER = "custom_generate"
_ENTRY = f"export_files.{FOLDER}.generate"
_IMPORT = re.compile(r"^from seqmatch\.([\w.]+) import", re.MULTILINE)
_FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", re.MULTILINE)
"""transformers asks for every package that a file names, even where only a type checker reads."""


def write_decoder(policy_folder: Path, max_positions: int | None) -> None:
    """Adds `custom_generate/` to a saved policy's folder.

    What only the decoder reads is moved there, since other runtimes take every `*.safetensors` of a
    model's folder for weights. The manifest learns how far the policy reads.

    Args:
        policy_folder: What `save_policy` wrote.
        max_positions: The longest input, prompt and answer together; None where there is no limit.

    Raises:
        OSError: A file could not be written.
    """
    folder = policy_folder / FOLDER
    folder.mkdir()
    if (policy_folder / BACKSPACE).exists():
        (policy_folder / BACKSPACE).rename(folder / BACKSPACE)
    manifest = json.loads((policy_folder / MANIFEST).read_text(encoding="utf-8"))
    (policy_folder / MANIFEST).unlink()
    told = json.dumps(manifest | {"max_positions": max_positions}, indent=2) + "\n"
    texts = {
        MANIFEST: told,
        "requirements.txt": _packaged(f"export_files/{FOLDER}/requirements.txt"),
    }
    for name, text in (texts | decoder_sources()).items():
        (folder / name).write_text(text, encoding="utf-8")


def decoder_sources() -> dict[str, str]:
    """Returns the Python files of the decoder by their names; they import nothing of seqmatch."""
    sources: dict[str, str] = {}
    waiting = [_ENTRY]
    while waiting:
        module = waiting.pop()
        text = _FOR_TYPES.sub("", _packaged(module.replace(".", "/") + ".py"))
        waiting += [name for name in _IMPORT.findall(text) if _file_name(name) not in sources]
        sources[_file_name(module)] = _IMPORT.sub(
            lambda found: f"from .{_last(found[1])} import", text
        )
    return sources


def _packaged(path: str) -> str:
    return (files("seqmatch") / path).read_text("utf-8")


def _last(module: str) -> str:
    return module.rpartition(".")[2]


def _file_name(module: str) -> str:
    return _last(module) + ".py"
