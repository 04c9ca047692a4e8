"""The learning rate, the step that refuses non-finite numbers, and the optimiser's saved state."""

import math

import pytest
import torch
from torch.nn import Parameter

from seqmatch.config import OptimizationConfig
from seqmatch.errors import CheckpointError
from seqmatch.optimization import (
    apply_gradients,
    are_finite,
    learning_rate_at,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
)


def _config(**changes: object) -> OptimizationConfig:
    settings = {"num_steps": 110, "warmup_steps": 10, "learning_rate": 0.5}
    return OptimizationConfig.model_validate({**settings, **changes})


@pytest.mark.parametrize(
    ("schedule", "at_60", "at_110"),
    [("constant", 0.5, 0.5), ("linear", 0.25, 0.0), ("cosine", 0.25, 0.0)],
)
def test_learning_rate_warms_up_and_falls(schedule: str, at_60: float, at_110: float) -> None:
    config = _config(schedule=schedule)

    assert learning_rate_at(0, config) == pytest.approx(0.05)
    assert learning_rate_at(9, config) == learning_rate_at(10, config) == pytest.approx(0.5)
    assert learning_rate_at(60, config) == pytest.approx(at_60)
    assert learning_rate_at(110, config) == pytest.approx(at_110, abs=1e-12)


def test_learning_rate_without_warmup_starts_at_its_peak() -> None:
    assert learning_rate_at(0, _config(warmup_steps=0, num_steps=1)) == 0.5


def _parameters() -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": Parameter(torch.randn(3, 2, generator=generator)),
        "vector": Parameter(torch.randn(2, generator=generator)),
    }


def _set_gradients(parameters: dict[str, Parameter], value: float) -> None:
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_a_bad_number_changes_nothing(bad: float) -> None:
    parameters = _parameters()
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = make_optimizer(parameters, _config())
    _set_gradients(parameters, bad)

    outcome = apply_gradients(optimizer, 1.0, 0.1, 1.0)

    assert not outcome.is_finite
    assert all(torch.equal(parameters[name], before[name]) for name in before)
    assert all(parameter.grad is None for parameter in parameters.values())
    assert optimizer_tensors(optimizer, parameters) == {}
    _set_gradients(parameters, 1.0)
    assert not apply_gradients(optimizer, bad, 0.1, 1.0).is_finite
    assert all(torch.equal(parameters[name], before[name]) for name in before)


def test_gradients_are_clipped_and_their_norm_is_told() -> None:
    parameters = {"vector": Parameter(torch.zeros(4))}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.0)
    _set_gradients(parameters, 3.0)

    outcome = apply_gradients(optimizer, 0.0, 0.1, 1.0)

    assert outcome.grad_norm == pytest.approx(6.0)
    assert parameters["vector"].detach().numpy() == pytest.approx([-0.05] * 4, rel=1e-5)


def test_only_matrices_are_decayed() -> None:
    groups = make_optimizer(_parameters(), _config(weight_decay=0.3)).param_groups

    assert [(group["weight_decay"], group["params"][0].ndim) for group in groups] == [
        (0.3, 2),
        (0.0, 1),
    ]


def test_a_restored_optimizer_goes_on_bit_by_bit() -> None:
    parameters, again = _parameters(), _parameters()
    optimizer = make_optimizer(parameters, _config())
    _set_gradients(parameters, 0.7)
    apply_gradients(optimizer, 0.0, 0.1, 1.0)
    saved = {
        name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, parameters).items()
    }
    for name, parameter in again.items():
        parameter.data.copy_(parameters[name].data)
    restored = make_optimizer(again, _config())
    load_optimizer_tensors(restored, again, saved)

    for each, at in ((optimizer, parameters), (restored, again)):
        _set_gradients(at, -0.2)
        apply_gradients(each, 0.0, 0.1, 1.0)

    assert all(torch.equal(parameters[name], again[name]) for name in parameters)


def test_a_state_of_other_parameters_is_refused() -> None:
    parameters = _parameters()
    optimizer = make_optimizer(parameters, _config())

    with pytest.raises(CheckpointError, match="1 tensors where 2 trainable"):
        load_optimizer_tensors(optimizer, parameters, {"step/other": torch.zeros(())})


def test_a_weight_that_is_not_finite_is_seen() -> None:
    parameters = _parameters()
    assert are_finite(parameters)

    parameters["matrix"].data[0, 0] = math.inf

    assert not are_finite(parameters)
