"""What the exact objectives are computed on, and what each of them is: plain data."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from seqmatch.exact.demonstrator import Demonstrator
from seqmatch.exact.languages import Language
from seqmatch.exact.output_law import data_law
from seqmatch.exact.policies import ExactPolicy
from seqmatch.exact.token_chain import TokenChain
from seqmatch.exact.trajectories import WeightedTrajectories, enumerate_demonstrations

Loss = Callable[[ExactPolicy], Tensor]


@dataclass(frozen=True)
class Setting:
    """A language as it is trained on: solved once, whatever the objective and the seed."""

    language: Language
    chain: TokenChain
    demonstrator: Demonstrator
    demonstrations: WeightedTrajectories
    law: Tensor
    """The data's, over `chain.terminal`."""

    @staticmethod
    def of(language: Language, backspace: bool) -> "Setting":
        """Returns the setting of a language, with or without the backspace action.

        Raises:
            ConfigError: There are too many demonstrations to enumerate.
        """
        chain = TokenChain.of(language, backspace)
        demonstrator = Demonstrator.of(language, chain)
        demonstrations = enumerate_demonstrations(demonstrator)
        return Setting(language, chain, demonstrator, demonstrations, data_law(chain, language))


@dataclass(frozen=True)
class Population:
    """What is minimised for one key. A function takes the policy whose samples count as given."""

    loss: Callable[[ExactPolicy], Loss]
    """The number itself, with the given policy's samples held."""
    again: Callable[[ExactPolicy], Loss] | None
    """The same by another way; None where that would take too long."""
    descended: Callable[[ExactPolicy], Loss]
    """What the optimiser descends: the loss, or what has its gradient and a minimum."""
    has_samples: bool
    """Whether anything depends on the policy's own samples."""
    is_smooth: bool = True
    """Whether autograd differentiates it twice."""
    has_corner: bool = False
    """Whether it has no gradient where model and data agree."""
    warm_up: Callable[[ExactPolicy], None] | None = None
    """Brings a policy, in place, from its random start to where the objective takes over."""
    own_divergence: Callable[[ExactPolicy], Tensor] | None = None
    """What the objective should lower, where that is told at its start and end."""
