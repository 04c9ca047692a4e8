"""What the policy says along given trajectories, as plain arrays without gradients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from seqmatch.action_space import ActionSpace
from seqmatch.divergence_estimate import OccupancySample
from seqmatch.micro_batches import num_passes, share
from seqmatch.policy import Policy
from seqmatch.single_pass import build_batch
from seqmatch.types import Trajectory


@dataclass(frozen=True)
class TrajectoryValues:
    """Q and V along one trajectory, in nats."""

    trajectory: Trajectory
    chosen_q: Float[np.ndarray, " time"]
    """l(y_t | s_t), t = 0..N-1."""
    values: Float[np.ndarray, " state"]
    """V(s_t), t = 0..N."""

    def log_probs(self) -> Float[np.ndarray, " time"]:
        """Returns log p(y_t | s_t)."""
        result: Float[np.ndarray, " time"] = self.chosen_q - self.values[:-1]
        return result

    def temporal_differences(self, discount: float) -> Float[np.ndarray, " time"]:
        """Returns d_t = l(y_t | s_t) - discount * V(s_{t+1})."""
        result: Float[np.ndarray, " time"] = self.chosen_q - discount * self.values[1:]
        return result


@torch.no_grad()
def trajectory_values(
    policy: Policy, trajectories: Sequence[Trajectory], max_positions: int
) -> list[TrajectoryValues]:
    """Returns Q and V along each trajectory, in passes of at most `max_positions` positions."""
    result: list[TrajectoryValues] = []
    count = num_passes([trajectories], max_positions)
    for index in range(count):
        rows = share(trajectories, index, count)
        batch = build_batch(rows, policy.space, device=policy.device)
        found = policy.state_action_values(batch)
        chosen_q = found.chosen_q.double().cpu().numpy()
        values = found.values.double().cpu().numpy()
        for row, trajectory in enumerate(rows):
            length = len(trajectory.labels)
            result.append(
                TrajectoryValues(trajectory, chosen_q[row, :length], values[row, : length + 1])
            )
    return result


def occupancy_sample(
    found: Sequence[TrajectoryValues],
    space: ActionSpace,
    *,
    folds: Sequence[int],
    alpha: float,
    discount: float,
) -> OccupancySample:
    """Returns the state-action pairs of these trajectories with what the critic is linear in.

    Of an action: 1 and the implied reward alpha (l - gamma V'). Of the absorbing state: 1, its
    implied reward alpha (1 - gamma) V(s_N), and the log-likelihood of the tokens that stand there;
    where a limit forced the stop token, that of the label in its place.

    Args:
        found: Values along the trajectories.
        space: The action space.
        folds: The half, 0 or 1, of each trajectory; all of one prompt must be in one half.
        alpha: Scale of the implied reward.
        discount: gamma.
    """
    features, weights, pair_folds = [], [], []
    for each, fold in zip(found, folds, strict=True):
        length = len(each.chosen_q)
        block = np.zeros((length + 1, 5))
        block[:length, 0] = 1.0
        block[:length, 1] = alpha * each.temporal_differences(discount)
        standing = standing_times(each.trajectory.pushes, space)
        block[length, 2:] = (
            1.0,
            alpha * (1.0 - discount) * each.values[length],
            each.log_probs()[standing].sum(),
        )
        features.append(block)
        weights.append(
            np.append((1.0 - discount) * discount ** np.arange(length), discount**length)
        )
        pair_folds.append(np.full(length + 1, fold))
    return OccupancySample(
        np.concatenate(features), np.concatenate(weights), np.concatenate(pair_folds)
    )


def standing_times(pushes: Sequence[int], space: ActionSpace) -> list[int]:
    """Returns the times of the pushes that no backspace took back, in order."""
    standing: list[int] = []
    for time, push in enumerate(pushes):
        if not (space.has_backspace and push == space.backspace_id):
            standing.append(time)
        elif standing:
            standing.pop()
    return standing
