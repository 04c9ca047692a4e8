"""The operator against full logits and finite differences."""

from collections.abc import Callable

import pytest
import torch

from seqmatch.errors import ConfigError
from seqmatch.soft_q import chosen_q_and_soft_value

N, HIDDEN, VOCAB = 11, 5, 7
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


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    shapes = [(N, HIDDEN), (VOCAB, HIDDEN), (VOCAB,), (HIDDEN,)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


def from_full_logits(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    row: torch.Tensor | None,
    actions: torch.Tensor,
    can_delete: torch.Tensor,
    is_action: torch.Tensor,
    temperature: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Q and V from the whole matrix of logits."""
    logits = hidden @ weight.t() + (0 if bias is None else bias)
    if row is not None:
        backspace = (hidden @ row).masked_fill(~can_delete, -torch.inf)
        logits = torch.cat([logits, backspace.unsqueeze(1)], dim=1)
    chosen = logits.gather(1, actions.unsqueeze(1)).squeeze(1)
    return chosen.where(is_action, 0.0), temperature * (logits / temperature).logsumexp(1)


@pytest.mark.parametrize(("chunk", "temperature"), [(1, 1.0), (4, 0.3), (11, 1.0), (256, 2.0)])
def test_gradients_pass_finite_differences(chunk: int, temperature: float) -> None:
    assert torch.autograd.gradcheck(
        lambda h, w, b, r: chosen_q_and_soft_value(h, w, b, r, *masks(), chunk, temperature),
        tuple(parameters()),
    )


@pytest.mark.parametrize(("chunk", "temperature"), [(1, 1.0), (3, 0.3), (256, 1.0), (256, 2.0)])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("has_backspace", [False, True])
def test_values_and_gradients_equal_full_logits(
    chunk: int, temperature: float, has_bias: bool, has_backspace: bool
) -> None:
    hidden, weight, bias, row = parameters()
    actions, can_delete, is_action = masks()
    if not has_backspace:
        actions, can_delete = actions % VOCAB, torch.zeros_like(can_delete)
    used = [hidden, weight, *([bias] if has_bias else []), *([row] if has_backspace else [])]
    inputs = (hidden, weight, bias if has_bias else None, row if has_backspace else None)

    got = chosen_q_and_soft_value(*inputs, actions, can_delete, is_action, chunk, temperature)
    wanted = from_full_logits(*inputs, actions, can_delete, is_action, temperature)

    torch.testing.assert_close(got, wanted)
    left = torch.autograd.grad((got[0].sin() + got[1].square()).sum(), used)
    right = torch.autograd.grad((wanted[0].sin() + wanted[1].square()).sum(), used)
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


def test_half_precision_is_reduced_in_float32() -> None:
    hidden, weight, _, row = (x.detach().bfloat16().requires_grad_() for x in parameters())

    q, v = chosen_q_and_soft_value(hidden, weight, None, row, *masks())
    wanted = from_full_logits(hidden.float(), weight.float(), None, row.float(), *masks())
    gradients = torch.autograd.grad((v - q).sum(), (hidden, weight, row))

    assert q.dtype == v.dtype == torch.float32
    torch.testing.assert_close((q, v), wanted, atol=0.05, rtol=0.02)
    assert {gradient.dtype for gradient in gradients} == {torch.bfloat16}


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_no_tensor_of_all_logits_is_ever_made(temperature: float) -> None:
    """Every tensor that an operation returns is recorded; none has tokens x vocabulary elements."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        numel = 0

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
                    self.numel = max(self.numel, tensor.numel())
            return out

    tokens, vocab, chunk = 512, 400, 32
    hidden = torch.randn(tokens, 8, requires_grad=True)
    weight = torch.randn(vocab, 8, requires_grad=True)
    no, yes = torch.zeros(tokens, dtype=torch.bool), torch.ones(tokens, dtype=torch.bool)

    with Largest() as largest:  # type: ignore[no-untyped-call]
        actions = torch.zeros(tokens, dtype=torch.long)
        q, v = chosen_q_and_soft_value(
            hidden, weight, None, None, actions, no, yes, chunk, temperature
        )
        torch.autograd.backward((v - q).sum())

    assert largest.numel <= chunk * vocab


def test_extreme_logits_stay_finite() -> None:
    hidden, weight, bias, row = (1e4 * x.detach() for x in parameters(torch.float32))
    inputs = [x.requires_grad_() for x in (hidden, weight, bias, row)]

    q, v = chosen_q_and_soft_value(hidden, weight, bias, row, *masks())
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
