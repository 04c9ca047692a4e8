"""The operator against full logits and finite differences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from seqmatch.errors import ConfigError
from seqmatch.soft_q import Backend, LogitTransform, Tile, chosen_q_and_soft_value
from tests.full_logits import from_full_logits

N, HIDDEN, VOCAB = 11, 5, 7
TRANSFORMS = [LogitTransform(scale=0.5), LogitTransform(cap=1.5), LogitTransform(2.0, 1.5)]
Operator = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def masks() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Labels with backspaces where it exists, and some terminal states."""
    generator = torch.Generator().manual_seed(1)
    can_delete = torch.rand(N, generator=generator) > 0.3
    is_action = torch.rand(N, generator=generator) > 0.2
    actions = torch.randint(0, VOCAB, (N,), generator=generator)
    actions[2::4] = VOCAB
    can_delete[2::4] = True
    is_action[2] = True
    return actions, can_delete, is_action


Four = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def parameters(dtype: torch.dtype = torch.float64) -> Four:
    shapes = [(N, HIDDEN), (VOCAB, HIDDEN), (VOCAB,), (HIDDEN,)]
    hidden, weight, bias, row = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return changed((hidden, weight, bias, row), lambda part: part.requires_grad_())


def changed(parts: Four, change: Callable[[torch.Tensor], torch.Tensor]) -> Four:
    hidden, weight, bias, row = parts
    return change(hidden), change(weight), change(bias), change(row)


@pytest.mark.parametrize(
    ("tile", "temperature", "transform"),
    [
        (Tile(3, 4), 1.0, LogitTransform()),
        (Tile(11, 7), 0.3, LogitTransform(0.5, 1.5)),
        (Tile(4, 5), 2.0, LogitTransform(scale=2.0)),
    ],
)
def test_gradients_pass_finite_differences(
    tile: Tile, temperature: float, transform: LogitTransform
) -> None:
    asked: dict[str, Any] = {"tile": tile, "temperature": temperature, "transform": transform}
    assert torch.autograd.gradcheck(
        lambda h, w, b, r: chosen_q_and_soft_value(h, w, b, r, *masks(), **asked),
        tuple(parameters()),
    )


@pytest.mark.parametrize(
    ("backend", "tile"),
    [("tiled", Tile(1, 1)), ("tiled", Tile(3, 4)), ("tiled", None), ("torch", Tile(3, 1))],
)
@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.0])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_backspace", [False, True])
def test_values_and_gradients_equal_full_logits(
    backend: Backend, tile: Tile | None, temperature: float, has_bias: bool, has_backspace: bool
) -> None:
    hidden, weight, bias, row = parameters()
    actions, can_delete, is_action = masks()
    if not has_backspace:
        actions, can_delete = actions % VOCAB, torch.zeros_like(can_delete)
    used = [hidden, weight, *([bias] if has_bias else []), *([row] if has_backspace else [])]
    inputs = (hidden, weight, bias if has_bias else None, row if has_backspace else None)
    masked = (actions, can_delete, is_action)

    got = chosen_q_and_soft_value(
        *inputs, *masked, temperature=temperature, tile=tile, backend=backend
    )
    wanted = from_full_logits(*inputs, *masked, temperature)

    torch.testing.assert_close(got, wanted)
    left = torch.autograd.grad((got[0].sin() + got[1].square()).sum(), used)
    right = torch.autograd.grad((wanted[0].sin() + wanted[1].square()).sum(), used)
    torch.testing.assert_close(left, right)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_transformed_logits_equal_full_logits(
    transform: LogitTransform, temperature: float
) -> None:
    inputs = parameters()
    got = chosen_q_and_soft_value(
        *inputs, *masks(), temperature=temperature, transform=transform, tile=Tile(4, 3)
    )
    wanted = from_full_logits(*inputs, *masks(), temperature, transform)

    torch.testing.assert_close(got, wanted)
    left = torch.autograd.grad((got[0].sin() + got[1].square()).sum(), inputs)
    right = torch.autograd.grad((wanted[0].sin() + wanted[1].square()).sum(), inputs)
    torch.testing.assert_close(left, right)


def test_frozen_weights_get_no_gradient() -> None:
    hidden, weight, bias, row = parameters()
    weight.requires_grad_(False)
    bias.requires_grad_(False)

    q, v = chosen_q_and_soft_value(hidden, weight, bias, row, *masks())
    torch.autograd.backward(q.sum() + v.sum())

    assert weight.grad is None
    assert bias.grad is None
    assert hidden.grad is not None
    assert row.grad is not None


def test_tied_weights_add_both_gradients() -> None:
    """The unembedding is the embedding: its gradient is the sum over both uses."""
    embedding = torch.randn(VOCAB, HIDDEN, dtype=torch.float64, requires_grad=True)
    tokens = torch.arange(N) % VOCAB
    actions, can_delete, is_action = masks()
    rest = (actions % VOCAB, torch.zeros_like(can_delete), is_action)

    def gradient(operator: Operator) -> torch.Tensor:
        q, v = operator(embedding[tokens].tanh(), embedding, None, None, *rest)
        return torch.autograd.grad((v - q).sum(), embedding)[0]

    torch.testing.assert_close(gradient(chosen_q_and_soft_value), gradient(from_full_logits))


def test_value_leaves_backspace_out_where_it_does_not_exist() -> None:
    hidden, weight, bias, row = parameters()
    actions = torch.zeros(N, dtype=torch.long)
    nowhere = torch.zeros(N, dtype=torch.bool)

    _, with_row = chosen_q_and_soft_value(hidden, weight, bias, row, actions, nowhere, ~nowhere)
    _, without = chosen_q_and_soft_value(hidden, weight, bias, None, actions, nowhere, ~nowhere)

    assert torch.equal(with_row, without)


def test_extreme_logits_stay_finite() -> None:
    inputs = changed(parameters(torch.float32), lambda x: (1e4 * x.detach()).requires_grad_())

    q, v = chosen_q_and_soft_value(*inputs, *masks())
    gradients = torch.autograd.grad((v - q).sum(), inputs)

    assert all(torch.isfinite(x).all() for x in (q, v, *gradients))


@pytest.mark.parametrize("label", [-1, VOCAB, VOCAB + 1])
def test_labels_that_are_no_actions_are_refused(label: int) -> None:
    hidden, weight, bias, row = parameters()
    _, can_delete, is_action = masks()
    place = 1
    can_delete[place], is_action[place] = False, True
    actions = torch.zeros(N, dtype=torch.long)
    actions[place] = label

    with pytest.raises(ConfigError, match=f"label {label} at position 1"):
        chosen_q_and_soft_value(hidden, weight, bias, row, actions, can_delete, is_action)


def test_backspace_without_a_row_is_refused() -> None:
    hidden, weight, bias, _ = parameters()
    with pytest.raises(ConfigError, match="no backspace row"):
        chosen_q_and_soft_value(hidden, weight, bias, None, *masks())


@pytest.mark.parametrize("tile", [Tile(0, 4), Tile(4, 0)])
def test_an_empty_tile_is_refused(tile: Tile) -> None:
    with pytest.raises(ConfigError, match=f"tile is {tile.states} x {tile.tokens}"):
        chosen_q_and_soft_value(*parameters(), *masks(), tile=tile)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature is"):
        chosen_q_and_soft_value(*parameters(), *masks(), temperature=temperature)


def test_the_torch_backend_refuses_what_it_rounds_or_does_not_know() -> None:
    halves = changed(parameters(), lambda x: x.detach().bfloat16())
    with pytest.raises(ConfigError, match=r"torch\.bfloat16.*both float32 or both float64"):
        chosen_q_and_soft_value(*halves, *masks(), backend="torch")
    with pytest.raises(ConfigError, match=r"LogitTransform\(scale=1\.0, cap=30\.0\)"):
        chosen_q_and_soft_value(
            *parameters(), *masks(), backend="torch", transform=LogitTransform(cap=30.0)
        )


def test_no_states_are_no_values() -> None:
    hidden, weight, bias, row = parameters()
    actions, can_delete, is_action = masks()

    q, v = chosen_q_and_soft_value(
        hidden[:0], weight, bias, row, actions[:0], can_delete[:0], is_action[:0]
    )
    gradients = torch.autograd.grad((v - q).sum(), (weight, bias, row))

    assert q.shape == v.shape == (0,)
    assert all(gradient.eq(0).all() for gradient in gradients)


def test_the_second_derivative_is_refused() -> None:
    """It would be wrong without a word otherwise: sums of forward are taken as constants."""
    inputs = parameters()
    q, v = chosen_q_and_soft_value(*inputs, *masks())
    (first,) = torch.autograd.grad((q.sin() + v.square()).sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        torch.autograd.backward(first.square().sum())
