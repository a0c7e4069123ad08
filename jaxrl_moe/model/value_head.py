"""The critic: a small head on the trunk's hidden states."""
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed.parameters import ParameterRow, declare

declare((ParameterRow("dense", (None, None)), ParameterRow("dense_bias", (None,), decayed=False),
         ParameterRow("out", (None, None)), ParameterRow("out_bias", (None,), decayed=False)))
OUT_STD = 0.01  # small, so that first values are near 0 and disturb no advantage


class ValueHead(nnx.Module):
    """Linear d -> d, tanh, Linear d -> 1, in float32."""

    def __init__(self, hidden_size: int, *, rngs: nnx.Rngs):
        self.hidden_size = hidden_size
        keys = jax.random.split(rngs.params())
        self.dense = nnx.Param(jax.random.normal(keys[0], (hidden_size, hidden_size)) / jnp.sqrt(hidden_size))
        self.dense_bias = nnx.Param(jnp.zeros(hidden_size))
        self.out = nnx.Param(OUT_STD * jax.random.normal(keys[1], (hidden_size, 1)) / jnp.sqrt(hidden_size))
        self.out_bias = nnx.Param(jnp.zeros(1))

    def __call__(self, hidden_BTD: jax.Array):
        """[B, T] float32 values."""
        inner = jnp.tanh(hidden_BTD.astype(jnp.float32) @ self.dense[...] + self.dense_bias[...])
        return (inner @ self.out[...] + self.out_bias[...])[..., 0]


class Critic(NamedTuple):
    """A value head, and what it values: "token", every next token, or "last_token", a whole sequence
    (rl.advantages)."""
    head: ValueHead
    kind: str
