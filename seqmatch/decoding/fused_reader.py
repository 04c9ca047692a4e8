"""Reading tokens with the weights of a Llama-like model, merged and fused for decoding.

One token of a small model is mostly the cost of calling operations, and an unmerged adapter adds
two products to each linear layer. So the adapter is added to copies of the weights, query, key and
value are one product, gate and up another, both with the weights of the norm before them; heads are
rotated in place as complex numbers, and the queries that share a key are rows of one attention
problem, so that keys are never repeated.

For rotating in place the features of queries and keys are reordered, pairs side by side instead of
half and half: both by the same order, which leaves their products as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional

from seqmatch.decoding.merged_adapters import can_merge, merged_weight, most_copied

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from seqmatch.policy import Policy

_MODELS = {"LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"}
_DTYPES = {torch.float32, torch.float64}
"""Those that have complex numbers."""
PROMPT_TOKENS = 1024
"""So many tokens of prompts are read at once on a CPU: what a layer makes of them stays in its
cache, and a fifth of the time is saved."""
BY_INPUTS = 1 << 18
"""Matrices of up to so many weights are turned round: up to 32 rows are then multiplied a quarter
faster. With larger ones less is gained, and turning them takes as long as a hundred steps save."""


@dataclass(frozen=True)
class _Product:
    """A linear layer."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class _Layer:
    """One block. The weights of its two root-mean-square norms are in the products after them."""

    qkv: _Product
    """Queries, keys and values, head after head."""
    head_norms: Tensor | None
    """[query and key heads, head_dim]: where queries and keys are normalised."""
    out: _Product
    gate_up: _Product
    down: _Product


def can_fuse(policy: "Policy") -> bool:
    """Tells whether a policy's model is one that `FusedReader` computes."""
    config = policy.lm_config
    transformer = policy.transformer
    if type(transformer).__name__.removeprefix("FSDP") not in _MODELS:
        return False
    if config.hidden_act != "silu" or policy.dtype not in _DTYPES:
        return False
    linears = [each for layer in transformer.layers for each in _linears(layer)]
    if not all(_is_known(each) for each in linears):
        return False
    size = sum(_plain(each).weight.nbytes for each in linears)
    return bool(size <= most_copied(policy.device))


class FusedReader:
    """Hidden states by fused copies of the weights; see `live_prefixes.Reader`."""

    def __init__(self, policy: "Policy", num_rows: int, capacity: int) -> None:
        """Copies the weights as they are now, adapters merged."""
        config, transformer = policy.lm_config, policy.transformer
        self._num_heads = config.num_attention_heads
        self._num_keys = getattr(config, "num_key_value_heads", None) or self._num_heads
        self._width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self._eps = config.rms_norm_eps
        self._embedding: Tensor = transformer.embed_tokens.weight
        self._last_norm = transformer.norm.weight
        with torch.no_grad():
            self._layers = [self._fused(layer) for layer in transformer.layers]
            self._rotations = _rotations(transformer.rotary_emb, policy, capacity)
        self._capacity = capacity
        # Key heads, then value heads; slots of a head side by side, as attention reads them.
        shape = num_rows, 2 * self._num_keys, capacity, self._width
        self._cache = [self._embedding.new_zeros(shape) for _ in self._layers]
        self._least = self._embedding.new_tensor(self._eps)
        self._seen: tuple[tuple[int, int], list[tuple[Tensor, ...]]] = (0, 0), []

    @torch.inference_mode()
    def prefill(
        self, first: int, ids: "Int[Tensor, 'row slot']", last: "Int[Tensor, ' row']"
    ) -> "Float[Tensor, 'row hidden']":
        """Reads right-padded prompts; what padding wrote is overwritten before it can be seen."""
        at_once = len(ids)
        if ids.device.type == "cpu":
            at_once = max(PROMPT_TOKENS // ids.shape[1], 1)
        parts = zip(torch.split(ids, at_once), torch.split(last, at_once), strict=True)
        starts = range(first, first + len(ids), at_once)
        return torch.cat(
            [
                self._read_prompts(start, part[:, : int(ends.max()) + 1], ends)
                for start, (part, ends) in zip(starts, parts, strict=True)
            ]
        )

    def _read_prompts(self, first: int, ids: Tensor, last: Tensor) -> Tensor:
        num_rows, length = ids.shape
        group = self._num_heads // self._num_keys

        def attend(number: int, heads: Tensor) -> Tensor:
            by_row = heads.view(num_rows, length, -1, self._width).transpose(1, 2)
            queries, kept = by_row[:, : self._num_heads], by_row[:, self._num_heads :]
            self._cache[number][first : first + num_rows, :, :length] = kept
            keys, values = kept.repeat_interleave(group, dim=1).chunk(2, dim=1)
            found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            return found.transpose(1, 2).reshape(num_rows * length, -1)

        rotations = self._rotations[:length].repeat(num_rows, 1, 1)
        x = self._run(ids.flatten(), rotations, attend)
        at = torch.arange(num_rows, device=ids.device) * length + last
        return self._normed(x[at]).mul_(self._last_norm)

    @torch.inference_mode()
    def step(
        self,
        ids: "Int[Tensor, ' row']",
        slots: "Int[Tensor, ' row']",
        positions: "Int[Tensor, ' row']",
        mask: "Float[Tensor, 'row 1 1 slot']",
    ) -> "Float[Tensor, 'row hidden']":
        """Reads one token of each of the first rows."""
        num_rows, length = len(ids), mask.shape[-1]
        num_kept = 2 * self._num_keys
        heads_before = torch.arange(num_rows * num_kept, device=ids.device).view(num_rows, -1)
        at = (heads_before * self._capacity + slots[:, None]).flatten()
        seen = self._views(num_rows, length)

        def attend(number: int, heads: Tensor) -> Tensor:
            queries, kept = heads.tensor_split([self._num_heads], dim=1)
            flat, keys, values = seen[number]
            flat.index_copy_(0, at, kept.reshape(-1, self._width))
            # The queries that share a key are the rows of one problem.
            queries = queries.reshape(num_rows, self._num_keys, -1, self._width)
            found = functional.scaled_dot_product_attention(queries, keys, values, mask)
            return found.reshape(num_rows, -1)

        x = self._run(ids, self._rotations[positions], attend)
        return self._normed(x).mul_(self._last_norm)

    def move(self, sources: "Int[Tensor, ' moved']", targets: "Int[Tensor, ' moved']") -> None:
        """Copies what rows hold to other rows."""
        for kept in self._cache:
            kept[targets] = kept[sources]

    def _run(
        self, ids: Tensor, rotations: Tensor, attend: Callable[[int, Tensor], Tensor]
    ) -> Tensor:
        """The blocks over some tokens; `attend` has the layer and its heads, already rotated."""
        x = functional.embedding(ids, self._embedding)
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(self._normed(x))
            heads = qkv.view(len(ids), -1, self._width)
            self._rotate(heads[:, : self._num_heads + self._num_keys], layer, rotations)
            x = x + layer.out(attend(number, heads))
            gate, up = layer.gate_up(self._normed(x)).chunk(2, dim=-1)
            x = x + layer.down(functional.silu(gate).mul_(up))
        return x

    def _rotate(self, heads: Tensor, layer: _Layer, rotations: Tensor) -> None:
        if layer.head_norms is not None:
            heads.copy_(self._normed(heads) * layer.head_norms)
        torch.view_as_complex(heads.view(*heads.shape[:-1], -1, 2)).mul_(rotations)

    def _normed(self, x: Tensor) -> Tensor:
        """Over the root of the mean square; in fewer operations than `rms_norm` is made of."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * torch.addcmul(self._least, length, length, value=1 / x.shape[-1]).rsqrt_()

    def _views(self, num_rows: int, length: int) -> list[tuple[Tensor, ...]]:
        """Of each layer's cache all slots of all heads, and the keys and values of some rows."""
        if self._seen[0] != (num_rows, length):
            views: list[tuple[Tensor, ...]] = [
                (
                    cache.view(-1, self._width),
                    cache[:num_rows, : self._num_keys, :length],
                    cache[:num_rows, self._num_keys :, :length],
                )
                for cache in self._cache
            ]
            self._seen = (num_rows, length), views
        return self._seen[1]

    def _fused(self, layer: Any) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        pairs = self._width // 2
        order = torch.arange(self._width).view(2, pairs).T.flatten()

        def in_pairs(part: Tensor) -> Tensor:
            return part.view(-1, self._width, *part.shape[1:])[:, order].flatten(0, 1)

        queries, keys = _merged(attention.q_proj), _merged(attention.k_proj)
        queries, keys = (
            _Product(in_pairs(each.weight), None if each.bias is None else in_pairs(each.bias))
            for each in (queries, keys)
        )
        norms = None
        if hasattr(attention, "q_norm"):
            norms = torch.cat(
                [
                    attention.q_norm.weight[order].expand(self._num_heads, -1),
                    attention.k_norm.weight[order].expand(self._num_keys, -1),
                ]
            )
        return _Layer(
            _stacked(layer.input_layernorm.weight, queries, keys, _merged(attention.v_proj)),
            norms,
            _laid_out(_merged(attention.o_proj)),
            _stacked(
                layer.post_attention_layernorm.weight, _merged(mlp.gate_proj), _merged(mlp.up_proj)
            ),
            _laid_out(_merged(mlp.down_proj)),
        )


def _linears(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    return [getattr(attention, name) for name in names] + [
        getattr(mlp, name) for name in ("gate_proj", "up_proj", "down_proj")
    ]


def _is_known(linear: nn.Module) -> bool:
    """Whether it is a plain linear layer, or one with plain adapters; whole, not a shard."""
    if isinstance(linear, LoraLinear):
        return can_merge(linear) and type(linear.get_base_layer()) is nn.Linear
    return type(linear) is nn.Linear and type(linear.weight) is nn.Parameter


def _plain(linear: Any) -> nn.Linear:
    base: nn.Linear = linear.get_base_layer() if isinstance(linear, LoraLinear) else linear
    return base


def _merged(linear: Any) -> _Product:
    """A layer with its adapters added."""
    weight = merged_weight(linear) if isinstance(linear, LoraLinear) else linear.weight.detach()
    return _Product(weight, _plain(linear).bias)


def _stacked(norm: Tensor, *products: _Product) -> _Product:
    """Products of the same input as one, which is first multiplied with the weights of a norm."""
    biases = [each.bias for each in products if each.bias is not None]
    bias = torch.cat(biases) if len(biases) == len(products) else None
    return _laid_out(_Product(torch.cat([each.weight for each in products]).mul_(norm), bias))


def _laid_out(product: _Product) -> _Product:
    """The same product, a small one with all weights of an input side by side."""
    if product.weight.numel() > BY_INPUTS:
        return product
    return _Product(product.weight.t().contiguous().t(), product.bias)


def _rotations(rotary: Any, policy: "Policy", capacity: int) -> Tensor:
    """[position, 1, pair] complex: what a head's pairs of features are multiplied with."""
    limit = policy.max_positions or capacity
    positions = torch.arange(capacity, device=policy.device).clamp(max=limit - 1)
    cos, sin = rotary(policy.head_weight.detach()[:1], positions[None])
    half = cos.shape[-1] // 2
    return torch.complex(cos[0, :, :half], sin[0, :, :half])[:, None]
