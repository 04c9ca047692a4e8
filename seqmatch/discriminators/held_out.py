"""How a discriminator does on answers that it has never learnt from."""

from collections.abc import Sequence

import numpy as np
import torch

from seqmatch.discriminators.measures import auc
from seqmatch.discriminators.player import DiscriminatorPlayer
from seqmatch.discriminators.scores import WeightedScores
from seqmatch.lens import calibration_bins, calibration_error
from seqmatch.policy import Policy
from seqmatch.types import Trajectory


def held_out_metrics(
    player: DiscriminatorPlayer | None,
    policy: Policy,
    demonstrated: Sequence[Trajectory],
    sampled: Sequence[Trajectory],
    max_positions: int,
) -> dict[str, float]:
    """Returns AUC and calibration of h at the last action, the log ratio of whole answers (D12).

    Args:
        player: Its discriminator learns from neither side; there is nothing to tell of one that has
            not learnt yet, or of none.
        policy: The policy that it stands beside.
        demonstrated: Held-out demonstrations.
        sampled: As many fresh answers to their prompts.
        max_positions: Input positions that go through the policy at once.
    """
    if player is None or not player.num_updates or not demonstrated or not sampled:
        return {}
    discriminator = player.discriminator
    sides = [
        torch.stack([h[-1] for h in discriminator.scores(policy, side, max_positions)]).cpu()
        for side in (demonstrated, sampled)
    ]
    data, rollouts = (
        WeightedScores(h, torch.full_like(h, 1.0 / len(h), dtype=torch.float64)) for h in sides
    )
    of_data, of_rollouts = (np.asarray(h.double()) for h in sides)
    bins = calibration_bins(of_data, of_rollouts)
    found = {"discriminator/held_out_auc": float(auc(data, rollouts))}
    if discriminator.config.loss != "bradley_terry_deviations":  # there h is no log ratio
        found["discriminator/calibration_error"] = calibration_error(bins)
    return found
