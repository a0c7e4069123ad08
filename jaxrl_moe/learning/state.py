"""What training changes and what it leaves alone."""
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.distributed.sharding import key_name
from jaxrl_moe.hosts import hosts
from jaxrl_moe.model.moe import Router, RouterBias
from jaxrl_moe.model.transformer import Transformer

ROUTER = {"auto": None, "train": True, "freeze": False}  # moe.router, as take_apart takes it


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
      trainable: nnx.State of the policy's trained arrays in float32.
      opt_state: optax's.
      step: int32 scalar, optimiser steps done.
      router_bias: nnx.State of the selection biases; empty for a model without.
      critic: nnx.State of the value head, or None; critic_opt_state likewise.
    """
    trainable: Any
    opt_state: Any
    step: Any
    router_bias: Any
    critic: Any = None
    critic_opt_state: Any = None


class Parts(NamedTuple):
    """A model taken apart. `dtypes` are the trainable arrays' types in the model; training keeps them in
    float32."""
    graphdef: Any
    frozen: Any
    dtypes: Any


def take_apart(model: Transformer, train_router: bool | None = None) -> tuple[Parts, Any, Any]:
    """Takes a model apart into what is trained and what is not.

    Args:
      model: the policy.
      train_router: whether routers are trained; None: only without adapters.

    Returns:
      (the parts, the trainable arrays in float32: adapters where there are any, else every parameter; the
        routers' biases).
    """
    lora = model.lora is not None
    train_router = trains_router(lora, train_router)
    routers = {path for path, module in nnx.iter_modules(model) if isinstance(module, Router)}

    def trained(path: tuple[Any, ...], value: nnx.Variable) -> bool:
        if path[:-1] in routers:
            return train_router and isinstance(value, nnx.Param)
        return isinstance(value, nnx.LoRAParam if lora else nnx.Param)

    graphdef, trainable, biases, frozen = nnx.split(model, trained, RouterBias, ...)
    dtypes = jax.tree.map(lambda array: array.dtype, trainable)
    masters = _cast(trainable, jax.tree.map(lambda _: jnp.dtype(jnp.float32), dtypes))
    return Parts(graphdef, frozen, dtypes), masters, biases


def trains_router(lora: bool, train_router: bool | None) -> bool:
    """Whether routers are trained; None: only without adapters."""
    return not lora if train_router is None else train_router


def model_weights(trainable: Any, dtypes: Any) -> Any:
    """The trainable arrays as the model computes with them; the very same arrays where the type is
    float32."""
    return _cast(trainable, dtypes)


def _cast(tree: Any, dtypes: Any) -> Any:
    """Arrays, or the shapes of arrays, in other types; the very same ones where the type is right already."""
    def cast(array: Any, dtype: Any) -> Any:
        if array.dtype == dtype:
            return array
        if isinstance(array, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(array.shape, dtype, sharding=array.sharding)
        return array.astype(dtype)

    return jax.tree.map(cast, tree, dtypes)


def flat_arrays(tree: Any) -> dict[str, jax.Array]:
    """{path: array}; a name for each leaf that does not depend on the container types."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(map(key_name, path)): leaf for path, leaf in leaves}


def fingerprint(tree: Any) -> str:
    """A hash of a few values of each array."""
    values = hashlib.sha256()
    for name, leaf in sorted(flat_arrays(tree).items()):
        values.update(name.encode())
        values.update(
            hosts.fetch(leaf[(slice(0, 1),) * (leaf.ndim - 1)].ravel()[:64] if leaf.ndim else leaf).tobytes())
    return values.hexdigest()[:16]
