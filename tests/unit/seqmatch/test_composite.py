"""The weighted sum against its parts written out, and the meaning of its weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from seqmatch.divergences import get_divergence
from seqmatch.errors import ConfigError
from seqmatch.objectives import CompositeConfig, SequenceMatchConfig, sequence_match_loss
from seqmatch.objectives.composite import (
    MARGIN,
    MATCHED,
    PARTS,
    backspace_calibration,
    composite_loss,
    parts_of,
)
from tests.oracles import likelihood_family as oracle
from tests.random_trajectories import Rows, arrays, gradients, rows, values
from tests.requested_values import BACKSPACE, requested_values

GAMMA, ALPHA = 0.9, 0.05
NONE = dict.fromkeys(PARTS, 0.0)


def settings(**weights: float) -> CompositeConfig:
    return CompositeConfig.model_validate(NONE | weights | {"alpha": ALPHA, "discount": GAMMA})


@pytest.mark.parametrize(
    "weights",
    [
        *({name: 1.0} for name in ("forward_kl", *MATCHED)),
        {"forward_kl": 1.0, "reverse_kl": 1.0},
        {"forward_kl": 0.5, "reverse_kl": 2.0, "jensen_shannon": 3.0, "chi_square_mixture": 0.7},
    ],
    ids=lambda weights: "+".join(weights),
)
def test_the_sum_equals_its_parts_written_out(weights: dict[str, float]) -> None:
    data, model = rows(0), rows(1)

    loss = composite_loss(values(data), values(model), settings(**weights)).loss

    pairs = zip(arrays(data), arrays(model), strict=True)
    expected = np.mean([oracle.composite(weights, d, m, GAMMA, ALPHA) for d, m in pairs])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-10)


def test_a_weight_means_the_divergence_of_that_name() -> None:
    """The fixture of the method's notes: Jeffreys, JS, and 4 chi2(P || M) with M the mixture."""
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    q = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    value = {
        name: factor * float((p * get_divergence(name).generator(q / p)).sum())
        for name, factor in {**MATCHED, "forward_kl": 1.0}.items()
    }

    assert value["forward_kl"] + value["reverse_kl"] == pytest.approx(1.0832200804, abs=1e-9)
    assert value["jensen_shannon"] == pytest.approx(0.1251006059, abs=1e-9)
    assert value["chi_square_mixture"] == pytest.approx(4 * 0.2333333333, abs=1e-9)


def test_jeffreys_is_sequence_match_with_the_mean_phi() -> None:
    """Terms that share their logits: W times SequenceMatch with phi = (x + 1 - e^-x) / 2."""
    weights = {"forward_kl": 1.0, "reverse_kl": 1.0}
    data = rows(2)

    loss = composite_loss(values(data), None, settings(**weights)).loss

    expected = np.mean([oracle.mean_phi_loss(weights, d, GAMMA, ALPHA) for d in arrays(data)])
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-10)


def test_one_weight_alone_is_that_objective() -> None:
    data, model = values(rows(3)), values(rows(4))
    matching = SequenceMatchConfig(alpha=ALPHA, discount=GAMMA)

    found = composite_loss(data, model, settings(chi_square_mixture=0.5)).loss

    torch.testing.assert_close(found, sequence_match_loss(data, model, matching).loss)


def test_calibration_equals_the_written_formula_and_its_gradient_is_exact() -> None:
    data = rows(5, lengths=(2, 6, 4))
    for _, labels in data:
        labels[-1] = BACKSPACE
    batch = requested_values(data, 1.0)
    can_delete = batch.can_delete
    assert can_delete is not None

    found = backspace_calibration(batch, GAMMA)

    expected = np.mean(
        [
            oracle.backspace_calibration(row, BACKSPACE, can_delete[number].tolist(), GAMMA, MARGIN)
            for number, row in enumerate(arrays(data))
        ]
    )
    assert float(found.detach()) == pytest.approx(float(expected), abs=1e-12)

    def of_first(logits: torch.Tensor) -> torch.Tensor:
        moved: Rows = [(logits, data[0][1]), *data[1:]]
        return backspace_calibration(requested_values(moved, 1.0), GAMMA)

    assert torch.autograd.gradcheck(of_first, (data[0][0],))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backspace", [-80.0, 0.0, 80.0])
def test_calibration_is_finite_however_sure_the_policy_is(
    backspace: float, dtype: torch.dtype
) -> None:
    logits = torch.zeros(3, 4, dtype=dtype)
    logits[:, BACKSPACE] = backspace
    logits.requires_grad_()
    batch = requested_values([(logits, [BACKSPACE, 0])], 1.0)
    every = torch.ones_like(batch.is_action)
    batch = replace(
        batch,
        values=logits.logsumexp(1)[None],
        backspace_q=logits[None, :, BACKSPACE],
        can_delete=torch.nn.functional.pad(every, (0, 1)),
    )

    found = backspace_calibration(batch, GAMMA)
    (gradient,) = torch.autograd.grad(found, logits)

    assert 0.0 <= float(found.detach()) < 2 * -np.log(MARGIN)
    assert torch.isfinite(gradient).all()


def test_calibration_is_least_at_its_target() -> None:
    data: Rows = [(torch.zeros(2, 4, dtype=torch.float64), [BACKSPACE])]
    data[0][0][0, BACKSPACE] = np.log(3 * (1 - MARGIN) / MARGIN)
    data[0][0].requires_grad_()

    found = backspace_calibration(requested_values(data, 1.0), GAMMA)

    assert float(found.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(gradients(found, data)[0].abs().max()) < 1e-12


def test_what_is_missing_is_told() -> None:
    data = values(rows(0))
    with pytest.raises(ConfigError, match="no rollouts"):
        composite_loss(data, None, settings(chi_square_mixture=1.0))
    with pytest.raises(ConfigError, match="with_backspace_q"):
        composite_loss(data, None, settings(backspace_calibration=1.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (NONE, "all weights are 0"),
        ({"backspace": False, "backspace_calibration": 1.0}, "backspace is off"),
        ({"forward_kl": -1.0}, "greater than or equal to 0"),
    ],
)
def test_meaningless_weights_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CompositeConfig.model_validate(changes)


def test_the_usual_weights_are_jeffreys() -> None:
    assert parts_of(CompositeConfig()) == [("forward_kl", 1.0), ("reverse_kl", 1.0)]
