"""What decoding with backspace can be told, and what of transformers' arguments it is."""

from dataclasses import dataclass, fields
from typing import Any

_NOT_OF_THE_LAW = {"transformers_version", "bos_token_id", "eos_token_id", "use_cache"}
"""What a GenerationConfig may say beside `Settings`: decoding is the same whatever it says."""


@dataclass(frozen=True)
class Settings:
    """What `generate` takes beside the prompts."""

    max_new_tokens: int = 64
    """An answer ends after this many standing tokens."""
    max_actions: int = 256
    """Insertions and deletions together; the last `min(max_new_tokens, max_actions // 4)` may not
    delete, so that an answer is not cut off in the middle of a correction."""
    temperature: float = 1.0
    """0 takes the likeliest action, and in no state a token that was taken back there."""
    do_sample: bool | None = None
    """False is temperature 0."""
    top_k: int = 0
    """Only the k likeliest actions, then top_p, then min_p; 0 leaves it out."""
    top_p: float = 1.0
    """Of these, only the likeliest with this total probability."""
    min_p: float = 0.0
    """Of these, only those with at least this times the likeliest one's probability."""
    stop_strings: str | list[str] | None = None
    """An answer ends once it contains one of these texts, which stay in it; needs `tokenizer`."""
    tokenizer: Any = None
    """The policy's; read for `stop_strings` alone."""
    seed: int = 0
    """The action at index n of row i is chosen with a random number of (seed, i, n) alone."""
    backspace: bool | None = None
    """False decodes without; True refuses a policy that has none; None uses it where it is."""
    pad_token_id: int | None = None
    """Fills `sequences`; None takes the model's, or the stop token."""
    return_dict_in_generate: bool = False
    """True returns a `BackspaceOutput`, False its `sequences` alone."""

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": (1, None),
            "max_actions": (1, None),
            "temperature": (0, None),
            "top_k": (0, None),
            "min_p": (0, 1),
            "top_p": (0, 1),
            "seed": (0, None),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value is not None and (value < least or (most is not None and value > most)):
                limit = f"at least {least}" if most is None else f"{least} to {most}"
                raise ValueError(f"{name} is {value}; allowed: {limit}")
        if self.top_p == 0:
            raise ValueError("top_p is 0; allowed: above 0, to 1")
        if self.stops and self.tokenizer is None:
            raise ValueError("stop_strings needs the tokenizer: generate(..., tokenizer=tokenizer)")
        if self.do_sample and self.temperature == 0:
            raise ValueError("do_sample is True and temperature 0; leave one of them out")

    @property
    def stops(self) -> list[str]:
        """The texts that end an answer."""
        stops = [self.stop_strings] if isinstance(self.stop_strings, str) else self.stop_strings
        return [stop for stop in stops or () if stop]

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest action is taken."""
        return self.temperature == 0 or self.do_sample is False


def read_settings(generation_config: Any, arguments: dict[str, Any]) -> Settings:
    """Returns the settings of a GenerationConfig or None, and of arguments, which go over it.

    Raises:
        ValueError: A setting that decoding with backspace does not have, or out of its range.
    """
    config = {} if generation_config is None else generation_config.to_diff_dict()
    given = {key: value for key, value in config.items() if key not in _NOT_OF_THE_LAW}
    given |= {key: value for key, value in arguments.items() if value is not None}
    known = {each.name for each in fields(Settings)}
    # transformers passes all that generate knows; what is None or False was not asked for.
    unknown = sorted(key for key in given.keys() - known if given[key] not in (None, False))
    if unknown:
        raise ValueError(
            f"decoding with backspace has no {', '.join(unknown)}; allowed: "
            f"{', '.join(sorted(known))}"
        )
    return Settings(**{key: value for key, value in given.items() if key in known})
