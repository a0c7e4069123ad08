"""The dense MLP."""
from typing import Any

import jax
from flax import nnx

from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.layers import Init, Linear


class MLP(nnx.Module):
    """(silu(x Wg) * (x Wu)) Wd."""

    def __init__(self, config: ModelConfig, *, stack: tuple[int, ...], lora: LoraConfig | None, dtype: Any,
                 rngs: nnx.Rngs):
        def linear(name: str, size_in: int, size_out: int, split: str = "out") -> Linear:
            init = Init(config.initializer_range, dtype, rngs, stack, lora)
            return Linear(f"mlp.{name}", size_in, size_out, init, split=split)

        self.gate_proj = linear("gate_proj", config.hidden_size, config.intermediate_size)
        self.up_proj = linear("up_proj", config.hidden_size, config.intermediate_size)
        self.down_proj = linear("down_proj", config.intermediate_size, config.hidden_size, split="in")

    def __call__(self, x: jax.Array, adapters: bool = True,
                 dropout_key: jax.Array | None = None) -> jax.Array:
        gate = jax.nn.silu(self.gate_proj(x, adapters, dropout_key))
        return self.down_proj(gate * self.up_proj(x, adapters, dropout_key), adapters, dropout_key)
