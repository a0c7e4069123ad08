"""Norm, embedding and linear layers. Arrays of stacked layers lead with the axes in `stack`, such as [L] or
[L, E]; inside the scan over layers a module sees them without the L axis."""
import math
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.expressions import Expressions
from jaxrl_moe.kernels.low_rank import low_rank
from jaxrl_moe.kernels.weight import WeightMatrix, multiply
from jaxrl_moe.model.config import LoraConfig
from jaxrl_moe.model.weight import whole


class RMSNorm(nnx.Module):
    """x / rms(x) * weight, with the statistics in float32 (arXiv 1910.07467)."""

    def __init__(self, size: int, eps: float, *, stack: tuple[int, ...] = (), dtype: Any):
        self.eps = eps
        self.weight = nnx.Param(jnp.ones((*stack, size), dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return self.weight[...] * (x32 * scale).astype(x.dtype)


class Embedding(nnx.Module):
    """A [V, D] table; also the output matrix of a model with tied embeddings. On a mesh, V is split over
    tensor, D over fsdp."""

    def __init__(self, vocab: int, size: int, *, std: float, dtype: Any, rngs: nnx.Rngs):
        self.weight = nnx.Param(std * jax.random.normal(rngs.params(), (vocab, size), dtype))

    def table_VD(self) -> WeightMatrix:
        """The rows of this device's part of the vocabulary."""
        return whole(self.weight, -1)

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        table_VD = self.table_VD()
        if collectives.size("tensor") == 1:
            return table_VD.rows(tokens_BT)
        local_BT = tokens_BT - collectives.index("tensor") * table_VD.shape[0]
        own_BT = (local_BT >= 0) & (local_BT < table_VD.shape[0])
        rows_BTD = jnp.where(own_BT[..., None], table_VD.rows(jnp.where(own_BT, local_BT, 0)), 0)
        return collectives.total(rows_BTD, "tensor")


class Init(NamedTuple):
    """How the arrays of a linear layer begin.

    Attributes:
      std: spread of a weight's numbers; a loaded model replaces them.
      dtype: of weight and bias.
      rngs: where all of them are drawn from.
      stack: leading axes, such as [L] or [L, E].
      lora: the adapters of the model, or None.
    """
    std: float
    dtype: Any
    rngs: nnx.Rngs
    stack: tuple[int, ...] = ()
    lora: LoraConfig | None = None


class Linear(nnx.Module):
    """y = x W + b, plus scale (dropout(x) A) B where a LoRA adapter is attached (arXiv 2106.09685).

    W is [*stack, in, out] and frozen under LoRA; A [*stack, in, r] and B [*stack, r, out] are float32. On a
    mesh the `split` side ("in" or "out") lies over tensor and the other over fsdp; a layer split on its input
    gives partial sums, which are added up here unless the caller does (`partial`).
    """

    def __init__(self, path: str, size_in: int, size_out: int, init: Init, *, bias: bool = False,
                 split: str = "out"):
        self.path = path
        self.split = split
        shape = (*init.stack, size_in, size_out)
        self.weight = nnx.Param(init.std * jax.random.normal(init.rngs.params(), shape, init.dtype))
        self.bias = nnx.Param(jnp.zeros((*init.stack, size_out), init.dtype)) if bias else None
        self.lora = init.lora if init.lora is not None and targets(init.lora, path) else None
        if self.lora is None:
            self.lora_a = None
            self.lora_b = None
        else:
            self.draw_adapter(init.rngs)

    def draw_adapter(self, rngs: nnx.Rngs) -> None:
        """A fresh adapter. PEFT draws A by Kaiming's uniform rule with a = sqrt(5), whose bound is 1 /
        sqrt(in); B is 0."""
        *stack, size_in, size_out = self.weight.shape
        bound = 1 / math.sqrt(size_in)
        rank = self.lora.rank
        self.lora_a = nnx.LoRAParam(
            jax.random.uniform(rngs.params(), (*stack, size_in, rank), jnp.float32, -bound, bound))
        self.lora_b = nnx.LoRAParam(jnp.zeros((*stack, rank, size_out), jnp.float32))

    def __call__(self, x: jax.Array, adapters: bool = True, dropout_key: jax.Array | None = None, *,
                 partial: bool = False) -> jax.Array:
        base, a, b = self.weights(adapters)
        y = multiply(x, base)
        if a is not None:
            product = low_rank if a.ndim == 2 else _batched_low_rank
            y = y + self.lora.scale * product(self.dropped(x, dropout_key), a.astype(x.dtype),
                                              b.astype(x.dtype))
        if self.split == "in" and not partial:
            y = collectives.total(y, "tensor")
        return y if self.bias is None else y + self.bias[...]

    def weights(self, adapters: bool = True) -> tuple[WeightMatrix, jax.Array | None, jax.Array | None]:
        """(W, A, B) as this device computes with them; A and B are None without adapters."""
        whole_in, whole_out = (-2, None) if self.split == "out" else (None, -1)
        base = whole(self.weight, -2 if self.split == "out" else -1)
        if not adapters or self.lora is None:
            return base, None, None
        return base, collectives.weight(self.lora_a[...],
                                        whole_in), collectives.weight(self.lora_b[...], whole_out)

    def dropped(self, x: jax.Array, dropout_key: jax.Array | None) -> jax.Array:
        """The adapter's input: x with dropout, drawn from the layer's key and this module's path."""
        if dropout_key is None or self.lora.dropout == 0.0:
            return x
        key = jax.random.fold_in(dropout_key, zlib.crc32(self.path.encode()) & 0x7FFFFFFF)
        key = collectives.local_key(key, *collectives.TOKENS, *(("tensor",) if self.split == "in" else ()))
        keep = 1.0 - self.lora.dropout
        return jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0).astype(x.dtype)


def _batched_low_rank(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return (x @ a) @ b


def targets(lora: LoraConfig, path: str) -> bool:
    """Whether the adapter configuration names the linear layer at `path`, such as "attention.q_proj"."""
    return any(matches(target, path) for target in lora.targets)


def matches(target: str, path: str) -> bool:
    """Whether a target means the layer: "all-linear", its path, the path's last name, or an expression."""
    if target in ("all-linear", path, path.rsplit(".", 1)[-1]):
        return True
    return Expressions("lora.targets").fullmatch(target, path) is not None
