"""A model of random weights made on the device a slice at a time, so that making it takes hardly more memory
than it has."""
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxrl_moe.config import ModelSection
from jaxrl_moe.model.config import LoraConfig, ModelConfig
from jaxrl_moe.model.transformer import Transformer

STD = 0.02


def make(config: ModelConfig, lora: LoraConfig | None, section: ModelSection) -> Transformer:
    """Norms are ones; all else is normal, adapters included, so that they matter.

    Args:
      config, lora: its shape and adapters.
      section: dtype and backends.
    """
    model = Transformer.abstract(config, lora=lora, dtype=jnp.dtype(section.dtype),
                                 attention=section.attention, grouped_matmul=section.grouped_matmul)
    graphdef, state = nnx.split(model)
    leaves, structure = jax.tree_util.tree_flatten_with_path(state)
    made = [_leaf(number, jax.tree_util.keystr(path), leaf) for number, (path, leaf) in enumerate(leaves)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, made))


def _leaf(number: int, path: str, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    if "norm" in path:
        return jnp.ones(leaf.shape, leaf.dtype)
    return jax.block_until_ready(_normal(jax.random.key(number, impl="rbg"), leaf.shape, leaf.dtype))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(key, shape, dtype):
    """Stacks one layer after the other: float32 numbers of a whole stack would need twice its memory
    again."""
    if len(shape) < 3:
        return (STD * jax.random.normal(key, shape, jnp.float32)).astype(dtype)
    keys = jax.random.split(key, shape[0])
    return jax.lax.map(lambda one: (STD * jax.random.normal(one, shape[1:], jnp.float32)).astype(dtype), keys)
