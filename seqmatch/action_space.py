"""The actions of the policy: insert one of the vocabulary's tokens, or take back the last one.

Backspace is a row of the unembedding and never an input token, so its id is the one that follows
the last token and no tokenizer knows it.
"""

from dataclasses import dataclass

from seqmatch.errors import ConfigError


@dataclass(frozen=True)
class ActionSpace:
    """Which ids are actions, and which tokens have a role.

    Raises:
        ConfigError: A special token is not in the vocabulary.
    """

    vocab_size: int
    """Number of rows of the unembedding; token ids are 0 .. vocab_size - 1."""
    eos_id: int
    """The stop token: a state that ends with it is terminal."""
    pad_id: int
    bos_id: int | None
    has_backspace: bool
    """Whether the policy may take back its last token."""
    unpushable: frozenset[int]
    """Tokens that noise never pushes: the special ones."""

    def __post_init__(self) -> None:
        special = {self.eos_id, self.pad_id, *self.unpushable}
        special |= set() if self.bos_id is None else {self.bos_id}
        outside = sorted(token for token in special if not 0 <= token < self.vocab_size)
        if outside:
            raise ConfigError(
                f"special tokens {outside} are outside the vocabulary; "
                f"allowed: 0 to {self.vocab_size - 1}"
            )

    @property
    def backspace_id(self) -> int:
        """Id of the backspace action, whether or not this space has it."""
        return self.vocab_size

    @property
    def num_actions(self) -> int:
        """Number of actions of a state above its floor."""
        return self.vocab_size + int(self.has_backspace)
