"""The canonical form of a demonstration: one line of JSON, and the hash over all of them.

A line has the keys completion, group, prompt, source in this order, no spaces, UTF-8. The hash is
SHA-256 over the lines without `source`, so the same rows have the same id whatever file they came
in.
"""

import hashlib
import json

from seqmatch.types import Demonstration, Message


def to_lines(demonstration: Demonstration) -> tuple[bytes, bytes]:
    """Returns the line to be stored and the line to be hashed, both with their line end."""
    prompt = demonstration.prompt
    content = {
        "completion": demonstration.completion,
        "group": demonstration.group,
        "prompt": prompt
        if isinstance(prompt, str)
        else [{"role": turn.role, "content": turn.content} for turn in prompt],
    }
    hashed = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    source = json.dumps(demonstration.source, ensure_ascii=False)
    return f'{hashed[:-1]},"source":{source}}}\n'.encode(), f"{hashed}\n".encode()


def from_line(line: bytes) -> Demonstration:
    """Returns the demonstration of a stored line.

    Raises:
        ValueError, LookupError or TypeError: it is no such line.
    """
    row = json.loads(line)
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        prompt = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
    return Demonstration(prompt, row["completion"], row["group"], row["source"])


class ContentHash:
    """SHA-256 over the content of demonstrations, in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256(b"seqmatch demonstrations 1\n")

    def add(self, hashed_line: bytes) -> None:
        """Adds the next demonstration's line."""
        self._digest.update(hashed_line)

    def hexdigest(self) -> str:
        """Returns the id as 64 hexadecimal digits."""
        return self._digest.hexdigest()
