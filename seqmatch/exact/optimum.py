"""The optimum of a loss over a small policy's parameters: L-BFGS, then Newton steps, in float64.

A loss may hold something of the policy fixed (the mixture's own samples): then it is minimised in
rounds, each holding what the policy of the last round gives, until the gradient at the policy's own
samples vanishes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

GRADIENT_TOLERANCE = 1e-9
_NEWTON_STEPS = 12
_NEWTON_PARAMETERS = 400
_ROUNDS = 200
_ITERATIONS = 3000
_TELL_EVERY = 5
_STEP = 1e-5

Array = npt.NDArray[np.float64]


class Interrupted(Exception):  # noqa: N818 - not an error: whoever watches asked to stop
    """Raised out of the optimiser when `tell` says to stop."""


@dataclass(frozen=True)
class Optimum:
    """Where the optimiser ended."""

    loss: float
    num_iterations: int
    num_rounds: int
    grad_norm: float
    """Largest absolute entry of the gradient."""
    is_converged: bool
    """Whether `grad_norm` is at most the tolerance."""


def minimise(
    policy: nn.Module,
    loss: Callable[[], Tensor],
    tell: Callable[[], bool],
    *,
    tolerance: float = GRADIENT_TOLERANCE,
) -> Optimum:
    """Minimises a loss over the policy's parameters, in place.

    Args:
        policy: Small, in float64.
        loss: A scalar of the policy as it stands; differentiable, deterministic.
        tell: Called every few iterations; False stops.
        tolerance: Largest absolute entry of the gradient at which the policy counts as optimal.

    Raises:
        Interrupted: `tell` returned False.
    """
    parameters = list(policy.parameters())
    num_iterations = 0

    def value_and_gradient(point: Array) -> tuple[float, Array]:
        _place(parameters, torch.from_numpy(point))
        value, gradient = _value_and_gradient(parameters, loss)
        return float(value), gradient.numpy()

    def count(_: Array) -> None:
        nonlocal num_iterations
        num_iterations += 1
        if num_iterations % _TELL_EVERY == 0 and not tell():
            raise Interrupted

    found = minimize(
        value_and_gradient,
        _point(parameters).numpy(),
        jac=True,
        method="L-BFGS-B",
        callback=count,
        options={"maxiter": _ITERATIONS, "maxcor": 30, "ftol": 0.0, "gtol": tolerance},
    )
    _place(parameters, torch.from_numpy(found.x))
    if not tell():
        raise Interrupted
    steps = _newton(parameters, loss, tolerance)
    value, gradient = _value_and_gradient(parameters, loss)
    norm = float(gradient.abs().max())
    return Optimum(float(value), num_iterations + steps, 1, norm, norm <= tolerance)


def minimise_in_rounds(
    policy: nn.Module,
    hold: Callable[[], Callable[[], Tensor]],
    tell: Callable[[], bool],
    *,
    tolerance: float = GRADIENT_TOLERANCE,
) -> Optimum:
    """Finds the policy that is optimal for the loss that it fixes itself.

    theta_{k+1} = argmin_theta L(theta; theta_k), until dL/dtheta (theta; theta_k) vanishes at
    theta = theta_k. The fixed part has no gradient: the policy's samples count as given.

    Args:
        policy: As for `minimise`.
        hold: Takes what is fixed from the policy as it stands, and returns the loss with it.
        tell: As for `minimise`.
        tolerance: As for `minimise`, of the gradient at the policy's own samples.

    Raises:
        Interrupted: `tell` returned False.
    """
    num_iterations = 0
    parameters = list(policy.parameters())
    for num_rounds in range(1, _ROUNDS + 1):
        loss = hold()
        value, gradient = _value_and_gradient(parameters, loss)
        norm = float(gradient.abs().max())
        if norm <= tolerance or num_rounds == _ROUNDS:
            break
        # Early rounds need no more than what the next one can use.
        enough = max(tolerance / 2, min(1e-3, norm * 1e-3))
        num_iterations += minimise(policy, loss, tell, tolerance=enough).num_iterations
    return Optimum(float(value), num_iterations, num_rounds, norm, norm <= tolerance)


def _newton(parameters: Sequence[Tensor], loss: Callable[[], Tensor], tolerance: float) -> int:
    """Takes Newton steps while they make the gradient smaller; returns how many.

    L-BFGS stops where differences of the loss drown in rounding; the gradient does not.
    Directions without curvature (the offset of logits, states that are never seen) stay as they
    are.
    """
    if sum(each.numel() for each in parameters) > _NEWTON_PARAMETERS:
        return 0
    for step in range(_NEWTON_STEPS):
        start = _point(parameters)
        _, gradient = _value_and_gradient(parameters, loss)
        if gradient.abs().max() <= tolerance:
            return step
        hessian = _hessian(parameters, loss)
        curvatures, directions = torch.linalg.eigh(hessian)
        is_curved = curvatures > 1e-10 * curvatures.abs().max()
        along = directions[:, is_curved]
        move = along @ ((along.T @ gradient) / curvatures[is_curved])
        _place(parameters, start - move)
        _, moved = _value_and_gradient(parameters, loss)
        if not moved.abs().max() < gradient.abs().max():
            _place(parameters, start)
            return step
    return _NEWTON_STEPS


def _value_and_gradient(
    parameters: Sequence[Tensor], loss: Callable[[], Tensor]
) -> tuple[Tensor, Tensor]:
    value = loss()
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    return value.detach(), _flat(parameters, gradients)


def _hessian(parameters: Sequence[Tensor], loss: Callable[[], Tensor]) -> Tensor:
    """By central differences of the exact gradient, good to about ten digits."""
    point = _point(parameters)
    columns = []
    for place in range(len(point)):
        step = torch.zeros_like(point)
        step[place] = _STEP
        _place(parameters, point + step)
        _, ahead = _value_and_gradient(parameters, loss)
        _place(parameters, point - step)
        _, behind = _value_and_gradient(parameters, loss)
        columns.append((ahead - behind) / (2 * _STEP))
    _place(parameters, point)
    hessian = torch.stack(columns)
    return (hessian + hessian.T) / 2


def _flat(parameters: Sequence[Tensor], gradients: tuple[Tensor | None, ...]) -> Tensor:
    return torch.cat(
        [
            torch.zeros_like(each).flatten() if gradient is None else gradient.flatten()
            for each, gradient in zip(parameters, gradients, strict=True)
        ]
    )


def _point(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().flatten() for each in parameters]).clone()


def _place(parameters: Sequence[Tensor], point: Tensor) -> None:
    with torch.no_grad():
        offset = 0
        for each in parameters:
            each.copy_(point[offset : offset + each.numel()].view_as(each))
            offset += each.numel()
