"""Q-values and soft values from hidden states, without ever holding the logits of all tokens.

Every loss of this project is a function of two numbers a state: Q(s, y) = l(y|s), the logit of the
label, and V(s) = logsumexp l(.|s), in one of them at a temperature. The operator gives both and
takes an upstream gradient for each of them at each state, so that any function of (Q, V) works,
losses that couple t with t + 1 included.
"""

from seqmatch.soft_q.head import SoftHead
from seqmatch.soft_q.operator import Backend, chosen_q_and_soft_value
from seqmatch.soft_q.tiled import Tile
from seqmatch.soft_q.transform import LogitTransform, transform_of

__all__ = [
    "Backend",
    "LogitTransform",
    "SoftHead",
    "Tile",
    "chosen_q_and_soft_value",
    "transform_of",
]
