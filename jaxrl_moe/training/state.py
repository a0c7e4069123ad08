"""What training changes and what it leaves alone."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.model.transformer import Transformer


class TrainState(NamedTuple):
    """trainable: nnx.State in float32; opt_state: optax's; step: int32 scalar, optimiser steps done."""
    trainable: Any
    opt_state: Any
    step: Any


class Parts(NamedTuple):
    """A model taken apart. `dtypes` are the trainable arrays' types in the model; training keeps them in float32."""
    graphdef: Any
    frozen: Any
    dtypes: Any


def take_apart(model: Transformer) -> tuple[Parts, Any]:
    """Returns the parts, and the trainable arrays in float32: adapters where there are any, else every parameter."""
    trained = nnx.Param if model.lora is None else nnx.LoRAParam
    graphdef, trainable, frozen = nnx.split(model, trained, ...)
    dtypes = jax.tree.map(lambda array: array.dtype, trainable)
    masters = _cast(trainable, jax.tree.map(lambda _: jnp.dtype(jnp.float32), dtypes))
    return Parts(graphdef, frozen, dtypes), masters


def model_weights(trainable, dtypes):
    """The trainable arrays as the model computes with them; the very same arrays where the type is float32."""
    return _cast(trainable, dtypes)


def _cast(tree, dtypes):
    return jax.tree.map(lambda array, dtype: array if array.dtype == dtype else array.astype(dtype), tree, dtypes)
