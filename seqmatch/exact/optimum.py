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
_ROUGH = 1e-4
"""Gradient at which Newton steps take over."""
_NEWTON_PARAMETERS = 500
_NEWTON_STEPS = 100
_HALVINGS = 12
_LONGEST_STEP = 4.0
_FLAT = 1e-13
"""Curvature, relative to the largest, that counts as none."""
_DIFFERENCE = 1e-5
_ROUNDS = 200
_ITERATIONS = 3000
_TELL_EVERY = 5

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
    is_smooth: bool = True,
) -> Optimum:
    """Minimises a loss over the policy's parameters, in place.

    L-BFGS comes near; Newton steps finish, since L-BFGS needs hundreds of steps where alpha is
    small and ends where differences of the loss drown in rounding.

    Args:
        policy: Small, in float64.
        loss: A scalar of the policy as it stands; differentiable, deterministic.
        tell: Called every few iterations; False stops.
        tolerance: Largest absolute entry of the gradient at which the policy counts as optimal.
        is_smooth: Whether autograd differentiates the loss twice; else its second derivatives are
            differences of gradients.

    Raises:
        Interrupted: `tell` returned False.
    """
    descent = _Descent(list(policy.parameters()), loss, tell, is_smooth)
    has_newton = sum(each.numel() for each in descent.parameters) <= _NEWTON_PARAMETERS
    descent.quasi_newton(max(tolerance, _ROUGH) if has_newton else tolerance)
    if has_newton:
        descent.newton(tolerance)
    value, norm = descent.value_and_norm()
    if norm > tolerance and has_newton:
        descent.quasi_newton(tolerance)
        descent.newton(tolerance)
        value, norm = descent.value_and_norm()
    return Optimum(value, descent.num_iterations, 1, norm, norm <= tolerance)


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
        value, norm = _Descent(parameters, loss, tell, True).value_and_norm()
        if norm <= tolerance or num_rounds == _ROUNDS:
            break
        # A round needs no more than what the next one can use.
        enough = max(tolerance / 2, norm * 1e-3)
        num_iterations += minimise(policy, loss, tell, tolerance=enough).num_iterations
    return Optimum(value, num_iterations, num_rounds, norm, norm <= tolerance)


@dataclass
class _Descent:
    """One descent on one loss."""

    parameters: Sequence[Tensor]
    loss: Callable[[], Tensor]
    tell: Callable[[], bool]
    is_smooth: bool
    num_iterations: int = 0

    def quasi_newton(self, tolerance: float) -> None:
        """L-BFGS until the gradient is small or the loss no longer falls."""

        def value_and_gradient(point: Array) -> tuple[float, Array]:
            self._place(torch.from_numpy(point))
            value, gradient = self._value_and_gradient()
            return float(value), gradient.numpy()

        found = minimize(
            value_and_gradient,
            self._point().numpy(),
            jac=True,
            method="L-BFGS-B",
            callback=lambda _: self._count(),
            options={"maxiter": _ITERATIONS, "maxcor": 30, "ftol": 0.0, "gtol": tolerance},
        )
        self._place(torch.from_numpy(found.x))

    def newton(self, tolerance: float) -> None:
        """Newton steps, halved until they help, as long as they do.

        Along negative curvature a step goes downhill as far as along the same positive one.
        Directions without curvature (the offset of logits, states that are never seen) stay.
        """
        value, gradient = self._value_and_gradient()
        for _ in range(_NEWTON_STEPS):
            if gradient.abs().max() <= tolerance:
                return
            self._count()
            curvatures, directions = torch.linalg.eigh(self._hessian())
            is_curved = curvatures.abs() > _FLAT * curvatures.abs().max()
            along = directions[:, is_curved]
            move = along @ ((along.T @ gradient) / curvatures[is_curved].abs())
            moved = self._step_down(move, value, gradient)
            if moved is None:
                return
            value, gradient = moved

    def _step_down(
        self, move: Tensor, value: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Takes the longest part of a move that helps; None, and no step, where none does.

        It helps if the loss falls or, where that drowns in rounding, the gradient does.
        """
        start = self._point()
        length = min(1.0, _LONGEST_STEP / float(move.abs().max()))
        noise = 1e-14 * value.abs().clamp(min=1.0)
        for _ in range(_HALVINGS):
            self._place(start - length * move)
            new_value, new_gradient = self._value_and_gradient()
            is_lower = new_value < value - noise
            is_flatter = new_gradient.abs().max() < gradient.abs().max()
            if is_lower or (is_flatter and new_value <= value + noise):
                return new_value, new_gradient
            length /= 2
        self._place(start)
        return None

    def value_and_norm(self) -> tuple[float, float]:
        """The loss and the largest entry of its gradient."""
        value, gradient = self._value_and_gradient()
        return float(value), float(gradient.abs().max())

    def _count(self) -> None:
        self.num_iterations += 1
        if self.num_iterations % _TELL_EVERY == 1 and not self.tell():
            raise Interrupted

    def _value_and_gradient(self) -> tuple[Tensor, Tensor]:
        value = self.loss()
        gradients = torch.autograd.grad(value, self.parameters, materialize_grads=True)
        return value.detach(), torch.cat([each.flatten() for each in gradients])

    def _hessian(self) -> Tensor:
        hessian = self._second_derivatives() if self.is_smooth else self._differences()
        return (hessian + hessian.T) / 2

    def _second_derivatives(self) -> Tensor:
        first = torch.autograd.grad(
            self.loss(), self.parameters, create_graph=True, materialize_grads=True
        )
        flat = torch.cat([each.flatten() for each in first])
        each_way = torch.eye(len(flat), dtype=flat.dtype)
        second = torch.autograd.grad(
            flat, self.parameters, each_way, is_grads_batched=True, materialize_grads=True
        )
        return torch.cat([each.reshape(len(flat), -1) for each in second], dim=1)

    def _differences(self) -> Tensor:
        """Second derivatives as central differences of gradients, good to about ten digits."""
        point = self._point()
        columns = []
        for place in range(len(point)):
            ends = []
            for step in (_DIFFERENCE, -_DIFFERENCE):
                moved = point.clone()
                moved[place] += step
                self._place(moved)
                ends.append(self._value_and_gradient()[1])
            columns.append((ends[0] - ends[1]) / (2 * _DIFFERENCE))
        self._place(point)
        return torch.stack(columns)

    def _point(self) -> Tensor:
        return torch.cat([each.detach().flatten() for each in self.parameters]).clone()

    def _place(self, point: Tensor) -> None:
        with torch.no_grad():
            offset = 0
            for each in self.parameters:
                each.copy_(point[offset : offset + each.numel()].view_as(each))
                offset += each.numel()
