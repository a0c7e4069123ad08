"""A layer of a decoder: a mixer of tokens and an MLP, each behind a norm and beside a residual."""
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxrl_moe.distributed import collectives
from jaxrl_moe.model.attention import Attention
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.layers import RMSNorm
from jaxrl_moe.model.mlp import MLP
from jaxrl_moe.model.moe import MoE, Routing
from jaxrl_moe.model.passes import LayerPass


class Build(NamedTuple):
    """How a stack of layers is made.

    Attributes:
      stack: leading axes of all arrays, (layers,).
      lora: adapters to attach, or None; dtype: of weights and activations.
      attention, grouped_matmul: backends of kernels.
      platform: of the devices that compute, such as "gpu".
    """
    stack: tuple[int, ...]
    lora: LoraConfig | None
    dtype: Any
    rngs: nnx.Rngs
    attention: str = "auto"
    grouped_matmul: str = "auto"
    platform: str = "cpu"


class LayerKind(NamedTuple):
    """What a layer is; a family says which one each layer of a model is (model/families).

    Attributes:
      name: that rows of the weight map name.
      sparse: whether it sends tokens to experts and so gives a Routing; the others give None.
      make: from (ModelConfig, Build) to a module with Layer's call. The same object for all layers of the
        kind.
    """
    name: str
    sparse: bool
    make: Callable[[ModelConfig, Build], nnx.Module]


class Layer(nnx.Module):
    """A stack of like layers; a call computes one of them, whose arrays the scan has sliced out."""

    def __init__(self, config: ModelConfig, build: Build):
        norm = functools.partial(RMSNorm, config.hidden_size, config.rms_norm_eps, stack=build.stack,
                                 dtype=build.dtype)
        self.input_norm = norm()
        self.post_attention_norm = norm()
        self.attention = self.make_attention(config, build)
        self.mlp = self.make_mlp(config, build)

    def make_attention(self, config: ModelConfig, build: Build) -> nnx.Module:
        """A module with Attention's call."""
        return Attention(config, stack=build.stack, lora=build.lora, dtype=build.dtype, rngs=build.rngs,
                         platform=build.platform, backend=build.attention)

    def make_mlp(self, config: ModelConfig, build: Build) -> nnx.Module:
        return MLP(config, stack=build.stack, lora=build.lora, dtype=build.dtype, rngs=build.rngs)

    def run_mlp(self, normed_BTD: jax.Array, call: LayerPass) -> tuple[jax.Array, Routing | None]:
        return self.mlp(normed_BTD, call.adapters, call.dropout_key), None

    def __call__(
        self, x_BTD: jax.Array, call: LayerPass, cache: Any
    ) -> tuple[jax.Array, Any, Routing | None]:
        """Returns (x, cache, Routing or None). Under remat "mlp" the backward pass computes the MLP or the
        experts again from their input; attention's products, which are dear where sequences are long, are
        kept."""

        def attention(x_BTD: jax.Array, cache: Any) -> tuple[jax.Array, Any]:
            return self.attention(self.input_norm(x_BTD), call, cache)

        def mlp(normed_BTD: jax.Array) -> tuple[jax.Array, Routing | None]:
            return self.run_mlp(normed_BTD, call)

        if call.remat != "full":  # which wraps the whole layer
            attention = kept_but_weights(attention)
            mlp = jax.checkpoint(mlp, prevent_cse=False) if call.remat == "mlp" else kept_but_weights(mlp)
        mixed, cache = attention(x_BTD, cache)
        x_BTD = x_BTD + mixed
        out, routing = mlp(self.post_attention_norm(x_BTD))
        return x_BTD + out, cache, routing


class SparseLayer(Layer):
    """The same with a mixture of experts."""

    def make_mlp(self, config: ModelConfig, build: Build) -> nnx.Module:
        return MoE(config, stack=build.stack, lora=build.lora, dtype=build.dtype, rngs=build.rngs,
                   backend=build.grouped_matmul, platform=build.platform)

    def run_mlp(self, normed_BTD: jax.Array, call: LayerPass) -> tuple[jax.Array, Routing | None]:
        return self.mlp(normed_BTD, call.segments_BT > 0, call.adapters, call.dropout_key,
                        call.expert_ids_BTA)


DENSE = LayerKind("dense", False, Layer)
SPARSE = LayerKind("sparse", True, SparseLayer)


def kept_but_weights(function: Callable) -> Callable:
    """The function, of which the backward pass computes nothing again but the weights that are gathered over
    fsdp.

    Never round a part that is computed again: JAX applies an outer policy inside too, and all of that part
    would be kept.
    """
    if collectives.size("fsdp") == 1:
        return function
    return jax.checkpoint(function, prevent_cse=False, policy=collectives.all_but_gathered_weights)
