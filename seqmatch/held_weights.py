"""A copy of a policy's trained weights, with which the policy can compute for a while.

For policies that are needed beside the one that is trained: a moving average, the policy at the
end of the imitation warm-up, the one before training. Only what is trained is kept, so that a
LoRA's copy is small.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from seqmatch.errors import CheckpointError
from seqmatch.policy import Policy


class HeldWeights:
    """The trained weights of a policy as they were when this was made, or as they were loaded."""

    def __init__(self, policy: Policy) -> None:
        """Copies the trained weights."""
        self.weights: dict[str, Tensor] = {
            name: weight.detach().clone() for name, weight in policy.trainable_parameters().items()
        }

    @contextmanager
    def in_place(self, policy: Policy) -> Iterator[None]:
        """Lets the policy compute with these weights; its own come back untouched.

        Nothing whose gradient is still wanted may be computed before this and go backward after it:
        backward would read the exchanged weights.
        """
        parameters = policy.trainable_parameters()
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self.weights[name]
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]

    def tensors(self) -> dict[str, Tensor]:
        """Returns the weights by the names of the parameters, to be written to a checkpoint."""
        return {name: weight.cpu().contiguous() for name, weight in self.weights.items()}

    def load(self, tensors: Mapping[str, Tensor], what: str) -> None:
        """Sets the weights to what `tensors` returned; `what` names them in an error.

        Raises:
            CheckpointError: The names differ from the trained weights'.
        """
        if tensors.keys() != self.weights.keys():
            odd = sorted(tensors.keys() ^ self.weights.keys())[:3]
            raise CheckpointError(
                f"{what} has {len(tensors)} tensors where the policy trains "
                f"{len(self.weights)}; they differ at {', '.join(odd)}"
            )
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])
