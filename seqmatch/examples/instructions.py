"""Short questions and answers from chatterbot-corpus: a small real instruction set.

Licence and origin stand beside this file: `instructions.LICENSE.txt`, `instructions.SOURCE.md`.
"""

import json
from pathlib import Path

from seqmatch.ingest.conversion import group_of
from seqmatch.types import Demonstration

PATH = Path(__file__).with_name("instructions.jsonl")
LICENCE = "BSD 3-clause, Copyright (c) 2017 Gunther Cox"
DESCRIPTION = (
    "Some 300 short questions and answers (trivia, technical support, Python) written by "
    "volunteers, from chatterbot-corpus. For SmolLM2 and other pretrained models."
)


def load() -> list[Demonstration]:
    """Returns the questions with their answers, in the order of the file."""
    rows = []
    with PATH.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            source = f"{PATH.name}:{number}"
            rows.append(
                Demonstration(row["prompt"], row["completion"], group_of(row["prompt"]), source)
            )
    return rows
