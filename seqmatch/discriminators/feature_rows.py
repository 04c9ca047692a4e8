"""Features of several answers put together and taken apart: pairs stand row by row, unpadded."""

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from seqmatch.discriminators.pair_features import PairFeatures


def joined(parts: Sequence[PairFeatures]) -> PairFeatures:
    """Returns the rows of all parts, one after the other, padded to the longest answer.

    The log-probabilities of the AIRL form are there where every part has them.
    """
    longest = max(part.is_action.shape[1] for part in parts)
    log_probs = [part.log_probs for part in parts if part.log_probs is not None]
    is_action = [pad(part.is_action, (0, longest - part.is_action.shape[1])) for part in parts]
    return PairFeatures(
        states=torch.cat([part.states for part in parts]),
        actions=torch.cat([part.actions for part in parts]),
        is_backspace=torch.cat([part.is_backspace for part in parts]),
        is_action=torch.cat(is_action),
        log_probs=torch.cat(log_probs) if len(log_probs) == len(parts) else None,
    )


def feature_rows(features: PairFeatures, rows: Sequence[int]) -> PairFeatures:
    """Returns the features of some answers, in the given order."""
    is_action = features.is_action
    lengths = is_action.sum(dim=1)
    ends = lengths.cumsum(0)
    chosen = torch.cat(
        [torch.arange(int(ends[row] - lengths[row]), int(ends[row])) for row in rows]
    ).to(is_action.device)
    index = torch.as_tensor(rows, device=is_action.device)
    return PairFeatures(
        states=features.states[chosen],
        actions=features.actions[chosen],
        is_backspace=features.is_backspace[chosen],
        is_action=is_action[index],
        log_probs=None if features.log_probs is None else features.log_probs[chosen],
    )
