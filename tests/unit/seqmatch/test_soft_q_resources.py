"""What the operator allocates, and how exact its sums are in half precision."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seqmatch.soft_q import Tile, chosen_q_and_soft_value
from tests.full_logits import from_full_logits

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class _Sizes(TorchDispatchMode):
    """Records the size of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@contextmanager
def sizes() -> Iterator[_Sizes]:
    with _Sizes() as recorded:
        yield recorded


def largest_tensor(num_states: int, hidden_size: int, *, trains: bool, temperature: float) -> int:
    """The elements of the largest tensor of a forward and backward pass; 400 tokens."""
    vocab = 400
    hidden = torch.randn(num_states, hidden_size, requires_grad=True)
    weight = torch.randn(vocab, hidden_size, requires_grad=trains)
    no, yes = torch.zeros(num_states, dtype=torch.bool), torch.ones(num_states, dtype=torch.bool)
    actions = torch.arange(num_states) % vocab
    with sizes() as recorded:
        q, v = chosen_q_and_soft_value(
            hidden, weight, None, None, actions, no, yes, temperature=temperature, tile=Tile(32, 64)
        )
        torch.autograd.backward((v - q).sum())
    return recorded.largest


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_no_tensor_of_all_logits_is_ever_made(temperature: float) -> None:
    found = largest_tensor(512, 8, trains=True, temperature=temperature)
    assert found == max(512 * 8, 32 * 64, 400 * 8)


@pytest.mark.parametrize("trains", [False, True])
def test_a_gradient_as_large_as_the_unembedding_exists_only_if_that_trains(trains: bool) -> None:
    found = largest_tensor(16, 100, trains=trains, temperature=1.0)
    assert found == (400 * 100 if trains else 64 * 100)


def halves(num_states: int, hidden_size: int, vocab: int, *, scale: float) -> Inputs:
    """Weights and states that bfloat16 holds exactly, with gradients."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(num_states, hidden_size), (vocab, hidden_size), (vocab,), (hidden_size,)]
    hidden, weight, bias, row = (
        (scale * torch.randn(shape, generator=generator)).bfloat16().requires_grad_()
        for shape in shapes
    )
    return hidden, weight, bias, row


def in_float64(inputs: Inputs) -> Inputs:
    hidden, weight, bias, row = (x.detach().double().requires_grad_() for x in inputs)
    return hidden, weight, bias, row


def assert_rounded_once(got: torch.Tensor, wanted: torch.Tensor) -> None:
    """One rounding to bfloat16 is at most 2^-8 of the number; sums in float32 add little."""
    assert got.dtype == torch.bfloat16
    floor = 1e-5 * wanted.abs().max()
    assert ((got.double() - wanted).abs() <= 2**-8 * wanted.abs() + floor).all()


@pytest.mark.parametrize("tile", [Tile(16, 5), Tile(2048, 12)], ids=["many", "one"])
def test_half_precision_is_summed_in_float32(tile: Tile) -> None:
    """2,048 states, in tiles of 16 or in one: each gradient is the float64 oracle's, rounded once.

    Numbers of one sign make sums that grow, on which a sum in bfloat16 gets stuck.
    """
    num_states, vocab = 2048, 12
    inputs = halves(num_states, 6, vocab, scale=0.5)
    inputs[0].data.abs_()
    actions = torch.arange(num_states) % (vocab + 1)
    yes = torch.ones(num_states, dtype=torch.bool)
    oracle = in_float64(inputs)

    q, v = chosen_q_and_soft_value(*inputs, actions, yes, yes, tile=tile)
    wanted_q, wanted_v = from_full_logits(*oracle, actions, yes, yes)
    got = torch.autograd.grad(v.sum() + 0.5 * q.sum(), inputs)
    wanted = torch.autograd.grad(wanted_v.sum() + 0.5 * wanted_q.sum(), oracle)

    assert q.dtype == v.dtype == torch.float32
    torch.testing.assert_close((q.double(), v.double()), (wanted_q, wanted_v), atol=1e-6, rtol=1e-6)
    for one, other in zip(got, wanted, strict=True):
        assert_rounded_once(one, other)
    terms = (inputs[0][:, :1] * torch.ones(1)).bfloat16()
    stuck = torch.zeros(1, dtype=torch.bfloat16)
    for term in terms:
        stuck += term
    assert (stuck.double() / terms.double().sum()).item() < 0.9, "the case is too easy to show it"


@pytest.mark.parametrize("tile", [Tile(9, 3), Tile(32, 8)], ids=["several", "one"])
def test_half_precision_keeps_the_gradient_of_states_that_are_nearly_certain(tile: Tile) -> None:
    """Where p_y is nearly 1, g_V p_y + g_Q is what is left of two large numbers."""
    num_states, vocab = 32, 8
    hidden, weight, _, row = halves(num_states, 16, vocab, scale=1.0)
    actions = (hidden @ weight.t()).argmax(1)
    hidden.data.mul_(2.0)
    yes = torch.ones(num_states, dtype=torch.bool)
    oracle = in_float64((hidden, weight, weight[0], row))

    q, v = chosen_q_and_soft_value(hidden, weight, None, row, actions, ~yes, yes, tile=tile)
    wanted_q, wanted_v = from_full_logits(*oracle[:2], None, oracle[3], actions, ~yes, yes)
    (got,) = torch.autograd.grad((v - q).sum(), (hidden,))
    (wanted,) = torch.autograd.grad((wanted_v - wanted_q).sum(), oracle[:1])

    certain = (wanted_v - wanted_q).exp() < 1.0 + 1e-2
    assert certain.sum() > 5
    error = (got.double() - wanted)[certain].norm(dim=1) / wanted[certain].norm(dim=1)
    assert error.max() < 2**-7
