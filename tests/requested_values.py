"""Random trajectories with every value that an objective may ask for."""

from dataclasses import replace

import torch

from seqmatch.types import StateActionValues
from tests.random_trajectories import Rows, values

BACKSPACE = 3
"""The last of the four actions of `random_trajectories.rows`."""


def requested_values(data: Rows, beta: float, *, seed: int = 0) -> StateActionValues:
    """The values of `values`, those at temperature beta, of backspace, and what others say.

    Backspace exists wherever it is a label and in about half of the other states; the padding is
    rubbish on purpose.
    """
    plain = values(data)
    num_rows, num_times = plain.is_action.shape
    tempered = torch.full((num_rows, num_times), 1e6, dtype=torch.float64)
    backspace_q = torch.full((num_rows, num_times + 1), 1e6, dtype=torch.float64)
    can_delete = torch.ones(num_rows, num_times + 1, dtype=torch.bool)
    is_label = torch.ones(num_rows, num_times, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    of_others = [
        torch.full((num_rows, num_times), 1e6, dtype=torch.float64).where(
            ~plain.is_action, scale * torch.randn(num_rows, num_times, generator=generator) - shift
        )
        for scale, shift in ((0.3, 1.5), (0.3, 1.5), (1.0, 0.0))
    ]
    old_log_probs, reference_log_probs, advantages = of_others
    for row, (logits, labels) in enumerate(data):
        n = len(labels)
        is_label[row, :n] = torch.tensor(labels) == BACKSPACE
        tempered[row, :n] = beta * (logits[:n] / beta).logsumexp(1)
        backspace_q[row, : n + 1] = logits[:, BACKSPACE]
        can_delete[row, :n] = is_label[row, :n] | (torch.rand(n, generator=generator) > 0.5)
    return replace(
        plain,
        tempered_values=tempered,
        backspace_q=backspace_q,
        can_delete=can_delete,
        is_backspace_label=is_label,
        old_log_probs=old_log_probs,
        reference_log_probs=reference_log_probs,
        advantages=advantages,
    )
