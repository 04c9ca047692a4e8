"""Tokenising a set of demonstrations: all rows at once, and row by row.

`python -m benchmarks.tokenising`
"""

import sys
from collections.abc import Iterator

from benchmarks.paired import Figure, compare, control_of, show
from seqmatch.scratch_model import byte_tokenizer
from seqmatch.text import tokenize_demonstration, tokenize_demonstrations
from seqmatch.types import Demonstration

NUM_ROWS = 2_000
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def figures() -> Iterator[Figure]:
    """Measures without and with a chat template."""
    yield _figure("without a chat template", template=None)
    yield _figure("ChatML", template=TEMPLATE)


def _figure(name: str, *, template: str | None) -> Figure:
    tokenizer = byte_tokenizer()
    if template is not None:
        names = ["<|im_start|>", "<|im_end|>"]
        tokenizer.add_special_tokens({"extra_special_tokens": names})
        tokenizer.chat_template = template
    rows = [
        Demonstration(
            f"What is {at} + {at + 7}?", f"{at} and {at + 7} make {2 * at + 7}. " * 4, "g"
        )
        for at in range(NUM_ROWS)
    ]
    indices = range(NUM_ROWS)
    ratios = compare(
        {
            "at once": lambda: tokenize_demonstrations(tokenizer, rows, indices),
            "row by row": lambda: [
                tokenize_demonstration(tokenizer, row, at) for at, row in enumerate(rows)
            ],
        },
        "row by row",
        warm_up=1,
    )
    found = tokenize_demonstrations(tokenizer, rows, indices)
    one_by_one = [tokenize_demonstration(tokenizer, row, at) for at, row in enumerate(rows)]
    micros = 1e6 * ratios["at once"].seconds / NUM_ROWS
    return Figure(
        row="-",
        what=f"tokenising {NUM_ROWS} rows at once against row by row, {name}",
        measured=f"{ratios['at once']} of the time, {micros:.0f} µs a row",
        goal="-",
        is_met=None,
        equality=f"tokens of all rows equal: {found == one_by_one}",
        control=control_of(ratios),
    )


def main() -> int:
    """Measures and prints."""
    show(figures())
    return 0


if __name__ == "__main__":
    sys.exit(main())
