"""What all objectives share: averaging, the schedule, and the lists of members."""

import math

import pytest
import torch

from seqmatch.objectives import (
    CONFIGS,
    OBJECTIVES,
    SequenceMatchConfig,
    SFTConfig,
    beta_at,
    needs_rollouts,
    objective_loss,
    sft_loss,
)
from tests.oracles import sequence_match as oracle
from tests.random_trajectories import arrays, rows, values


def test_d18_summed_loss_is_proper_and_the_mean_over_lengths_is_not() -> None:
    """Geometric language with P(stop) = 1/2: the minimiser is 1/2; ln 2 if each row is averaged."""
    logit = torch.zeros((), dtype=torch.float64, requires_grad=True)
    lengths = range(1, 40)
    probabilities = torch.tensor([0.5**n for n in lengths], dtype=torch.float64)

    def losses() -> torch.Tensor:
        each = []
        state = torch.stack([logit, -logit])  # go on, stop
        for n in lengths:
            labels = [0] * (n - 1) + [1]
            each.append(sft_loss(values([(state.expand(n + 1, 2), labels)])).loss)
        return torch.stack(each)

    def minimiser(weights: torch.Tensor) -> float:
        with torch.no_grad():
            logit.zero_()
        for _ in range(60):  # Newton's method on a convex function of one variable
            (slope,) = torch.autograd.grad((weights * losses()).sum(), logit, create_graph=True)
            (curvature,) = torch.autograd.grad(slope, logit)
            with torch.no_grad():
                step = slope / curvature
                logit.sub_(step)
            if abs(float(step)) < 1e-12:
                break
        return float(torch.sigmoid(-2 * logit))

    assert minimiser(probabilities) == pytest.approx(0.5, abs=1e-9)
    per_length = probabilities / torch.tensor(list(lengths), dtype=torch.float64)
    assert minimiser(per_length) == pytest.approx(math.log(2), abs=1e-9)


def test_sft_sums_over_tokens_and_averages_over_sequences() -> None:
    data = rows(7, lengths=(2, 6))

    output = sft_loss(values(data))

    each = [oracle.discounted_nll(row, 1.0) for row in arrays(data)]
    assert float(output.loss) == pytest.approx(sum(each) / 2)
    assert float(output.terms["train/nll"]) == pytest.approx(sum(each) / 8)


def test_pure_imitation_needs_no_rollouts_and_equals_sft() -> None:
    data = values(rows(0))

    assert not needs_rollouts(SFTConfig(), 90, 100)
    output = objective_loss(SequenceMatchConfig(), data, None, 1.0)

    torch.testing.assert_close(output.loss, objective_loss(SFTConfig(), data, None, 0.0).loss)
    assert output.terms.keys() == {"train/loss", "train/bc_loss", "train/nll", "train/td_data"}


def test_beta_falls_linearly_after_the_warm_up() -> None:
    config = SequenceMatchConfig(warmup_fraction=0.4, final_beta=0.2)

    found = [beta_at(step, 100, config) for step in (0, 40, 70, 100, 130)]

    assert found == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert beta_at(5, 5, SequenceMatchConfig(warmup_fraction=1.0)) == 1.0


def test_the_catalogue_and_the_union_have_the_same_members() -> None:
    assert list(CONFIGS) == list(OBJECTIVES)
    assert all(info.sentence.endswith(".") for info in OBJECTIVES.values())
