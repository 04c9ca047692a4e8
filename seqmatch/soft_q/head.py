"""The unembedding of a policy as a module whose own forward gives Q and V.

Sharded training (FSDP) gathers a module's weights around its forward and only there, so the weight
must not be read from outside. A `SoftHead` takes the place of a model's unembedding: same
parameters under the same names, same logits for whoever calls it as a linear layer.
"""

from typing import Any, Self, overload

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seqmatch.errors import ModelLoadError
from seqmatch.soft_q.operator import Backend, chosen_q_and_soft_value
from seqmatch.soft_q.transform import IDENTITY, LogitTransform

QandV = tuple[Float[Tensor, " n"], Float[Tensor, " n"]]


class SoftHead(nn.Linear):
    """An unembedding that also gives Q-values and soft values."""

    transform: LogitTransform = IDENTITY
    """What the model does to logits after it."""
    backend: Backend = "tiled"
    """The engine of Q and V."""

    @classmethod
    def in_place_of(cls, linear: nn.Module, transform: LogitTransform = IDENTITY) -> Self:
        """Returns a head with the parameters of an unembedding; a head is returned as it is.

        Raises:
            ModelLoadError: It is not a plain linear layer (one with an adapter, say), so that Q and
                V from its weight would not be those of its output.
        """
        if isinstance(linear, cls):
            linear.transform = transform
            return linear
        if type(linear) is not nn.Linear:
            raise ModelLoadError(
                f"the unembedding is a {type(linear).__name__}; allowed: a plain linear layer, "
                "without an adapter or quantisation of its own"
            )
        sizes = (linear.in_features, linear.out_features)
        head = cls(*sizes, bias=linear.bias is not None, device="meta")
        head.weight, head.bias = linear.weight, linear.bias
        head.transform = transform
        return head.train(linear.training)

    @overload
    def forward(self, input: Float[Tensor, "*n hidden"]) -> Float[Tensor, "*n vocab"]: ...

    @overload
    def forward(
        self,
        input: Float[Tensor, "n hidden"],
        actions: Int[Tensor, " n"],
        can_delete: Bool[Tensor, " n"],
        is_action: Bool[Tensor, " n"],
        backspace_row: Float[Tensor, " hidden"] | None,
        temperatures: tuple[float, ...],
    ) -> tuple[QandV, ...]: ...

    def forward(
        self,
        input: Tensor,
        actions: Tensor | None = None,
        can_delete: Tensor | None = None,
        is_action: Tensor | None = None,
        backspace_row: Tensor | None = None,
        temperatures: tuple[float, ...] = (1.0,),
    ) -> Any:
        """Returns the unembedding's logits; with actions, (Q, V) at each temperature instead.

        The logits are those before `transform`, which the model itself applies after this layer;
        Q and V are of transformed ones. Arguments as of `chosen_q_and_soft_value`. All temperatures
        are one call, since each call of a sharded module gathers its weights.
        """
        if actions is None or can_delete is None or is_action is None:
            return super().forward(input)
        return tuple(
            chosen_q_and_soft_value(
                input,
                self.weight,
                self.bias,
                backspace_row,
                actions,
                can_delete,
                is_action,
                temperature=temperature,
                transform=self.transform,
                backend=self.backend,
            )
            for temperature in temperatures
        )
