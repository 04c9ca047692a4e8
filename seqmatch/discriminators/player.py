"""The discriminator's side of adversarial imitation: it learns on every batch of the policy's step.

It compares the demonstrations as they were written with the policy's own answers. Where mistakes
were inserted into demonstrations, to teach backspace, they are left out here: they are not the
expert's, and a policy rewarded for looking like them would learn to make them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seqmatch.discriminators.beside_policy import PolicyDiscriminator
from seqmatch.discriminators.feature_rows import feature_rows, joined
from seqmatch.discriminators.losses import binary_cross_entropy, variational_loss
from seqmatch.discriminators.measures import accuracy, auc, hit_rates, verdict_entropy
from seqmatch.discriminators.pair_features import PairFeatures
from seqmatch.discriminators.pairs import (
    Pairs,
    all_pairs,
    bradley_terry,
    bradley_terry_with_deviations,
    log_ratio_offset,
)
from seqmatch.discriminators.regularisers import (
    gradient_penalty,
    interpolated,
    may_update,
    r1_penalty,
)
from seqmatch.discriminators.scores import (
    WeightedScores,
    at_stop,
    token_weights,
    trajectory_weights,
)
from seqmatch.objectives import AdversarialConfig
from seqmatch.optimization import (
    apply_gradients,
    load_optimizer_tensors,
    optimizer_tensors,
)
from seqmatch.policy import Policy
from seqmatch.seeding import child_seed
from seqmatch.types import SinglePassBatch, StateActionValues, Trajectory

OFFSET_MEMORY = 0.9
"""How much of the running offset of a loss on pairs stays at each update."""
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class SeenPass:
    """One pass of a batch through the policy: demonstrations first, then the policy's answers."""

    demonstrated: Sequence[Trajectory]
    batch: SinglePassBatch
    hidden: Float[Tensor, "batch slot hidden"]
    values: StateActionValues
    places: Sequence[int] | None = None
    """Where each row stands in the batch, demonstrations before answers; None where the pass is the
    whole batch."""


@dataclass(frozen=True)
class _Sides:
    """What a loss is taken of, all passes together."""

    data: WeightedScores
    rollouts: WeightedScores
    data_pairs: Float[Tensor, "pair feature"]
    rollout_pairs: Float[Tensor, "other feature"]
    log_deviations: Pairs
    """Of all pairs of whole answers; empty where the loss has none."""


class DiscriminatorPlayer:
    """A discriminator with its optimiser."""

    def __init__(self, policy: Policy, objective: AdversarialConfig, seed: int) -> None:
        """Makes a new one beside a policy; arguments as for `PolicyDiscriminator`."""
        self.objective = objective
        self.config = objective.discriminator
        self.seed = seed
        self.backspace_id = policy.space.backspace_id
        self.discriminator = PolicyDiscriminator(policy, self.config, seed)
        # Without momentum, as in the code of FAIRL: the other player moves.
        self.optimizer = torch.optim.Adam(
            list(self.discriminator.parameters().values()),
            lr=self.config.learning_rate,
            betas=(0.0, 0.999),
            fused=True,
        )
        self.num_updates = 0

    def optimizer_tensors(self) -> dict[str, Tensor]:
        """Returns the optimiser's state, to be written to a checkpoint."""
        return optimizer_tensors(self.optimizer, self.discriminator.parameters())

    def resume(
        self, discriminator: PolicyDiscriminator, moments: dict[str, Tensor], num_updates: int
    ) -> None:
        """Takes the place of the player whose weights and `optimizer_tensors` these are.

        Raises:
            CheckpointError: They do not fit this player.
        """
        self.discriminator.load(discriminator.tensors())
        self.discriminator.offset = discriminator.offset
        load_optimizer_tensors(self.optimizer, self.discriminator.parameters(), moments)
        self.num_updates = num_updates

    def learn(
        self, policy: Policy, passes: Sequence[SeenPass], older: Sequence[SeenPass], step: int
    ) -> dict[str, float]:
        """Takes the updates of one step, and tells how it stood before the first of them.

        Args:
            policy: The policy, for its embeddings.
            passes: The batch of the policy's step.
            older: Answers of earlier rounds, in the place of as many of the batch's own.
            step: The optimiser step of the policy.

        Returns:
            The `discriminator/` metrics of this step.
        """
        self.discriminator.head.train()
        self.optimizer.zero_grad(set_to_none=True)  # of a pass that memory did not suffice for
        features: PairFeatures | None = None
        demonstrated = _demonstrated_in_order(passes)
        told: dict[str, float] = {}
        num_taken = 0
        for update in range(self.config.updates):
            if features is None or self.discriminator.moves_by_itself:
                features = self._read_all(policy, passes, older)
            sides = self._sides(features, demonstrated)
            loss = self._loss(sides, child_seed(self.seed, "penalty", step, update))
            measured = self._measured(sides)
            if not told:
                told = _verdict(*measured) | {"discriminator/loss": float(loss.detach())}
            now = float(accuracy(*measured))
            if may_update(now, self.config.gate) and self._update(loss, sides):
                num_taken += 1
        return told | {"discriminator/updates": num_taken / self.config.updates}

    @torch.no_grad()
    def judge(
        self, policy: Policy, passes: Sequence[SeenPass]
    ) -> list[Float[Tensor, "batch time"]]:
        """Returns h of the answers of each pass, 0 beyond their last action; without gradient."""
        self.discriminator.head.eval()
        found = []
        for one in passes:
            h = self.discriminator.head(self._read(policy, one)) - self.discriminator.offset
            answers = slice(len(one.demonstrated), None)
            found.append(h[answers].masked_fill(~one.batch.is_action[answers], 0.0))
        return found

    # ---- details

    def _read(self, policy: Policy, one: SeenPass, *, is_one_of_many: bool = False) -> PairFeatures:
        return self.discriminator.read(
            policy, one.batch, one.hidden, one.values, is_recomputed=is_one_of_many
        )

    def _read_all(
        self, policy: Policy, passes: Sequence[SeenPass], older: Sequence[SeenPass]
    ) -> PairFeatures:
        """The features of the batch in its own order, those of older answers behind them.

        The network reads them at once, so nothing depends on how the batch was cut into passes.
        """
        seen = (*passes, *older)
        parts = [self._read(policy, one, is_one_of_many=len(seen) > 1) for one in seen]
        if len(parts) == 1:
            return parts[0]
        order = batch_order(passes)
        num_rows = sum(len(part.is_action) for part in parts)
        return feature_rows(joined(parts), [*order, *range(len(order), num_rows)])

    def _sides(self, features: PairFeatures, demonstrated: Sequence[Trajectory]) -> _Sides:
        rows = len(demonstrated)
        log_deviation = None
        if self.config.loss == "bradley_terry_deviations":
            h, log_deviation = self.discriminator.head.scores_and_deviations(features)
        else:
            h = self.discriminator.head(features)
        times, is_written = written_times(demonstrated, self.backspace_id, h.device)
        is_answered = features.is_action[rows:]
        log_deviations = _no_pairs()
        if log_deviation is not None:
            log_deviations = _all_pairs_of(
                at_stop(log_deviation[:rows].gather(1, times), is_written),
                at_stop(log_deviation[rows:], is_answered),
            )
        written = answered = torch.empty(0)
        if self.config.gradient_penalty or self.config.r1_penalty:
            embedded = self.discriminator.head.embedded(features)
            is_data = torch.zeros_like(features.is_action)
            row = torch.arange(rows, device=h.device)[:, None].expand_as(times)
            is_data[row[is_written], times[is_written]] = True
            is_rollout = features.is_action.clone()
            is_rollout[:rows] = False
            written = embedded[is_data[features.is_action]]
            answered = embedded[is_rollout[features.is_action]]
        return _Sides(
            self._weighted(h[:rows].gather(1, times), is_written),
            self._weighted(h[rows:], is_answered),
            written,
            answered,
            log_deviations,
        )

    def _measured(self, sides: _Sides) -> tuple[WeightedScores, WeightedScores]:
        """The sides as accuracy and flags see them: with 0 where h says nothing.

        Losses on pairs leave h open up to a constant; there 0 is the middle between the means of
        both sides, so that the sign of h is which side a pair would call it.
        """
        if not self.config.loss.startswith("bradley_terry"):
            return sides.data, sides.rollouts
        data, rollouts = sides.data, sides.rollouts
        middle = ((data.mean(data.h) + rollouts.mean(rollouts.h)) / 2).detach()
        return (
            WeightedScores(data.h - middle, data.weights),
            WeightedScores(rollouts.h - middle, rollouts.weights),
        )

    def _weighted(
        self, h: Float[Tensor, "batch time"], is_action: Bool[Tensor, "batch time"]
    ) -> WeightedScores:
        """One side, flat; its weights sum to 1."""
        rows = torch.full((len(h),), 1.0 / max(len(h), 1), device=h.device)
        if self.objective.level == "trajectory":
            weights = trajectory_weights(is_action, rows)
        else:
            weights = token_weights(is_action, self.objective.discount, rows)
        return WeightedScores(h.flatten(), weights.flatten())

    def _loss(self, sides: _Sides, seed: int) -> Float[Tensor, ""]:
        config = self.config
        match config.loss:
            case "cross_entropy":
                loss = binary_cross_entropy(
                    sides.data, sides.rollouts, label_smoothing=config.label_smoothing
                )
            case "variational":
                loss = variational_loss(self.objective.entry, sides.data, sides.rollouts)
            case "bradley_terry":
                loss = bradley_terry(all_pairs(sides.data, sides.rollouts))
            case "bradley_terry_deviations":
                pairs = all_pairs(sides.data, sides.rollouts)
                loss = bradley_terry_with_deviations(pairs, sides.log_deviations)
            case _:
                assert_never(config.loss)
        score = self.discriminator.head.score
        if config.gradient_penalty:
            place = interpolated(
                sides.data_pairs, sides.rollout_pairs, torch.Generator().manual_seed(seed)
            )
            loss = loss + config.gradient_penalty * gradient_penalty(score, place)
        if config.r1_penalty:
            loss = loss + config.r1_penalty * r1_penalty(score, sides.data_pairs)
        return loss

    def _update(self, loss: Float[Tensor, ""], sides: _Sides) -> bool:
        """Steps, unless a number is not finite; follows the offset of a loss on pairs."""
        torch.autograd.backward(loss)
        rate = self.config.learning_rate
        outcome = apply_gradients(self.optimizer, loss.item(), rate, MAX_GRAD_NORM)
        if not outcome.is_finite:
            return False
        if self.config.loss == "bradley_terry":
            now = float(log_ratio_offset(_with_weight(sides.rollouts)).detach())
            kept = OFFSET_MEMORY if self.num_updates else 0.0
            self.discriminator.offset = kept * self.discriminator.offset + (1 - kept) * now
        self.num_updates += 1
        return True


def written_times(
    demonstrated: Sequence[Trajectory], backspace_id: int, device: torch.device | str = "cpu"
) -> tuple[Int[Tensor, "batch longest"], Bool[Tensor, "batch longest"]]:
    """Returns when each action of the demonstrations as they were written was taken.

    A label that is not what happened belongs to an inserted mistake, and so does every backspace:
    what is left, in order, is the demonstration. Where a limit forced the stop token, the last
    label counts, in whose place it was pushed.

    Returns:
        Times, padded with 0, and a mask that is True in front.
    """
    kept = []
    for trajectory in demonstrated:
        last = len(trajectory.labels) - 1
        records = enumerate(zip(trajectory.labels, trajectory.pushes, strict=True))
        kept.append(
            [
                at
                for at, (label, push) in records
                if label != backspace_id and (label == push or at == last)
            ]
        )
    width = max(map(len, kept), default=0)
    times = torch.zeros((len(kept), width), dtype=torch.long)
    exists = torch.zeros((len(kept), width), dtype=torch.bool)
    for row, found in enumerate(kept):
        times[row, : len(found)] = torch.tensor(found)
        exists[row, : len(found)] = True
    return times.to(device), exists.to(device)


def batch_order(passes: Sequence[SeenPass]) -> list[int]:
    """Returns which row of the passes, one after the other, stands at each place of the batch."""
    places = [place for one in passes for place in _places(one)]
    return sorted(range(len(places)), key=places.__getitem__)


def _demonstrated_in_order(passes: Sequence[SeenPass]) -> list[Trajectory]:
    placed = [
        (place, trajectory)
        for one in passes
        for place, trajectory in zip(_places(one), one.demonstrated, strict=False)
    ]
    return [trajectory for _, trajectory in sorted(placed, key=lambda each: each[0])]


def _places(one: SeenPass) -> Sequence[int]:
    return range(len(one.batch.labels)) if one.places is None else one.places


def _with_weight(side: WeightedScores) -> WeightedScores:
    """Without the entries of weight 0, whose logarithm is -inf."""
    counts = side.weights > 0
    return WeightedScores(side.h[counts], side.weights[counts])


def _no_pairs() -> Pairs:
    nothing = torch.empty(0, 0)
    return Pairs(nothing, nothing, nothing)


def _all_pairs_of(of_data: Tensor, of_rollouts: Tensor) -> Pairs:
    """All pairs of whole answers, in the order of `all_pairs`; their weights are not read."""
    shape = (len(of_data), len(of_rollouts))
    better, worse = of_data[:, None].expand(shape), of_rollouts[None, :].expand(shape)
    return Pairs(better, worse, torch.ones_like(better))


@torch.no_grad()
def _verdict(data: WeightedScores, rollouts: WeightedScores) -> dict[str, float]:
    of_data, of_rollouts = hit_rates(data, rollouts)
    return {
        "discriminator/accuracy_data": float(of_data),
        "discriminator/accuracy_rollouts": float(of_rollouts),
        "discriminator/auc": float(auc(data, rollouts)),
        "discriminator/entropy": float(verdict_entropy(data, rollouts)),
        "discriminator/score_data": float(data.mean(data.h)),
        "discriminator/score_rollouts": float(rollouts.mean(rollouts.h)),
    }
