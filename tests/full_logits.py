"""The independent way to Q and V: the whole matrix of logits, by autograd."""

import torch

from seqmatch.soft_q import LogitTransform


def from_full_logits(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    row: torch.Tensor | None,
    actions: torch.Tensor,
    can_delete: torch.Tensor,
    is_action: torch.Tensor,
    temperature: float = 1.0,
    transform: LogitTransform | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Q and V; arguments as of `chosen_q_and_soft_value`."""
    logits = hidden @ weight.t() + (0 if bias is None else bias)
    if row is not None:
        logits = torch.cat([logits, (hidden @ row).unsqueeze(1)], dim=1)
    if transform is not None:
        if transform.cap is not None:
            logits = torch.tanh(logits / transform.cap) * transform.cap
        logits = logits * transform.scale
    if row is not None:
        exists = torch.ones_like(logits, dtype=torch.bool)
        exists[:, -1] = can_delete
        logits = logits.masked_fill(~exists, -torch.inf)
    chosen = logits.gather(1, actions.unsqueeze(1)).squeeze(1)
    return chosen.where(is_action, 0.0), temperature * (logits / temperature).logsumexp(1)
