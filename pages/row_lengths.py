"""About how long the rows of a set are for a model: a guess from its first rows, no tokenizer."""

from functools import lru_cache
from pathlib import Path

from seqmatch.base_models import BASE_MODELS
from seqmatch.ingest import preview
from seqmatch.text import prompt_text

SAMPLE = 200
BYTES_PER_TOKEN = 4.0
"""Of English text under the tokenizers of pretrained models."""
TEMPLATE_TOKENS = 30
"""What a chat template adds to a prompt, its standard system message included."""
BYTE_MODEL_TOKENS = 2
"""Start and stop."""


def mean_tokens(rows_path: Path, base_model: str, max_tokens: int) -> float:
    """Returns about how many tokens a row has, prompt and answer, at most the limit."""
    num_bytes = _mean_bytes(rows_path)
    model = BASE_MODELS.get(base_model)
    if model is not None and model.source == "scratch":
        return min(num_bytes + BYTE_MODEL_TOKENS, max_tokens)
    return min(num_bytes / BYTES_PER_TOKEN + TEMPLATE_TOKENS, max_tokens)


@lru_cache(maxsize=64)  # the folder of a set is named by its content: it never changes
def _mean_bytes(rows_path: Path) -> float:
    rows = preview(rows_path, count=SAMPLE)
    sizes = [len((prompt_text(row.prompt) + row.completion).encode()) for row in rows]
    return sum(sizes) / max(1, len(sizes))
