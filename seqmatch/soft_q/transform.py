"""What some models do to their logits after the unembedding."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class LogitTransform:
    """A function of each logit, backspace's included.

        l = scale cap tanh(z / cap),   l = scale z without a cap

    Gemma 2 caps (`final_logit_softcapping`); Granite and Cohere scale.
    """

    scale: float = 1.0
    cap: float | None = None

    def apply_(self, logits: Tensor) -> Tensor:
        """Transforms in place and returns the same tensor."""
        if self.cap is not None:
            logits.div_(self.cap).tanh_().mul_(self.cap)
        return logits if self.scale == 1.0 else logits.mul_(self.scale)

    def of(self, logits: Tensor) -> Tensor:
        """Returns transformed logits, differentiably."""
        if self.cap is not None:
            logits = (logits / self.cap).tanh() * self.cap
        return logits if self.scale == 1.0 else logits * self.scale

    def slope(self, logits: Tensor) -> Tensor | float:
        """Returns dl/dz at transformed logits; a number where it is the same everywhere."""
        if self.cap is None:
            return self.scale
        bound = self.cap * self.scale
        return logits.square().mul_(-self.scale / bound**2).add_(self.scale)


IDENTITY = LogitTransform()


def transform_of(config: Any) -> LogitTransform:
    """Returns what a transformers model of this config does to its logits.

    `final_logit_softcapping` (Gemma 2) is the cap, `logits_scaling` (Granite) divides,
    `logit_scale` (Cohere) multiplies. Whether a model does only that is seen from its own logits.
    """
    cap = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    return LogitTransform(scale=scale, cap=float(cap) if cap else None)
