"""Where every array lies on the mesh: parameters declare their logical axes (distributed.parameters), and one
table leads from these to axes of the mesh."""
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxrl_moe.distributed.collectives import DRAWN, ROWS, Layout
from jaxrl_moe.distributed.parameters import row_of
from jaxrl_moe.types import UserError

# Logical axis -> mesh axis. `model` is the side of a matrix that is whole again, by a gather, when its layer
# computes. `rows` and `tokens` are of batches (learning.batch), `pages` of a cache (model.cache).
RULES = {"vocab": "tensor", "heads": "tensor", "model": "fsdp", "expert": "expert",
         "rows": ROWS, "tokens": "context", "pages": DRAWN}

DEVICE = "device"  # the kind of memory that computes


class MeshError(UserError):
    """A mesh that does not fit the machine, the model or the batch."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """A mesh, and where a model's arrays and batches lie on it."""
    mesh: Mesh
    layout: Layout

    @property
    def platform(self) -> str:
        """Of the mesh's devices, such as "gpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def row_shards(self) -> int:
        """Into how many parts the rows of a batch are split."""
        return math.prod(map(self.layout.size, ROWS))

    @property
    def drawn_shards(self) -> int:
        """Into how many parts the rows of a rollout are split."""
        return math.prod(map(self.layout.size, DRAWN))

    @property
    def token_shards(self) -> int:
        """Into how many parts the tokens of a row are split."""
        return self.layout.size("context")

    @property
    def shards(self) -> tuple[int, int]:
        """What the rows and the tokens of a micro-batch must be multiples of; a row is cut into two chunks a
        device, see context."""
        return self.row_shards, self.token_shards * 2 if self.token_shards > 1 else 1

    def specs(self, tree: Any) -> Any:
        """The specs of a state's arrays, in its structure."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: spec_of(logical_axes(dotted(path), leaf.ndim)), tree)

    def shapes(self, tree: Any) -> Any:
        """What `put` would give of a state's arrays, or of their shapes, as shapes with shardings."""
        def laid_out_shape(path: Any, leaf: Any):
            shape, sharding = self.laid_out(dotted(path), leaf.shape)
            return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=sharding)

        return jax.tree_util.tree_map_with_path(laid_out_shape, tree)

    def put(self, tree: Any) -> Any:
        """The arrays of a state laid out on the mesh; a vocabulary that does not divide is filled up with
        zeros (see `cut`)."""
        return jax.tree_util.tree_map_with_path(lambda path, leaf: self.put_one(dotted(path), leaf), tree)

    def put_one(self, path: str, array: jax.Array) -> jax.Array:
        """The array at a dotted path, likewise."""
        shape, sharding = self.laid_out(path, array.shape)
        array = filled_up(array, shape)
        # the same in every process, which keeps its devices' parts
        if jax.process_count() > 1 and array.is_fully_addressable:
            return jax.make_array_from_callback(shape, sharding, np.asarray(array).__getitem__)
        return jax.device_put(array, sharding)

    def stored(self, tree: Any, vocab_size: int) -> Any:
        """A state as checkpoints hold it, the same on every mesh: as `cut`, with shardings that the cut
        shapes allow, in the memory where each array lies."""
        def cut_leaf(path: Any, leaf: Any):
            shape = cut_shape(dotted(path), leaf.shape, vocab_size)
            if shape == leaf.shape:
                return leaf
            axes = [None if axis == "vocab" else axis for axis in logical_axes(dotted(path), leaf.ndim)]
            sharding = NamedSharding(self.mesh, spec_of(axes))
            array = jax.device_put(leaf, leaf.sharding.with_memory_kind(DEVICE))
            array = jax.jit(cut_one, static_argnums=(0, 2), out_shardings=sharding)(
                dotted(path), array, vocab_size)
            return jax.device_put(array, sharding.with_memory_kind(leaf.sharding.memory_kind))

        return jax.tree_util.tree_map_with_path(cut_leaf, tree)

    def laid_out(self, path: str, shape: tuple[int, ...]) -> tuple[tuple[int, ...], NamedSharding]:
        """(the shape on the mesh, the sharding) of the parameter at a dotted path that has `shape` in its
        model."""
        axes = logical_axes(path, len(shape))
        parts = self.layout.size("tensor")
        padded = tuple(size + (-size % parts if axis == "vocab" else 0) for size, axis in zip(shape, axes))
        return padded, NamedSharding(self.mesh, spec_of(axes))


def logical_axes(path: str, ndim: int) -> tuple[str | None, ...]:
    """Of the array at a dotted path such as "stacks.0.attention.q_proj.weight"; a scalar has none.

    Raises:
      UndeclaredParameter: no row covers it.
    """
    return row_of(path, ndim).axes if ndim else ()


def spec_of(axes: Sequence[str | None]) -> PartitionSpec:
    """Of an array with these logical axes; those that it does not name are whole."""
    return PartitionSpec(*map(RULES.get, axes))


def cut(tree: Any, vocab_size: int) -> Any:
    """A state without the rows that `put` filled its vocabulary up with; the very same arrays where there are
    none."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: cut_one(dotted(path), leaf, vocab_size), tree)


def cut_one(path: str, array: jax.Array, vocab_size: int) -> jax.Array:
    """The array at a dotted path, likewise."""
    shape = cut_shape(path, array.shape, vocab_size)
    return array if shape == array.shape else jax.lax.slice(array, (0,) * array.ndim, shape)


def cut_shape(path: str, shape: tuple[int, ...], vocab_size: int) -> tuple[int, ...]:
    """The shape that the array at a dotted path has in its model, where it has `shape` on the mesh."""
    return tuple(vocab_size if axis == "vocab" else size
                 for size, axis in zip(shape, logical_axes(path, len(shape))))


def refilled(stored: Any, like: Any) -> Any:
    """A state from Placement.stored laid out as the state `like` is, with zeros behind its vocabulary; very
    same arrays as in cut."""
    def refill(array: Any, wanted: Any):
        if array.shape == wanted.shape:
            return array
        array = jax.device_put(array, array.sharding.with_memory_kind(DEVICE))
        fill = jax.jit(filled_up, static_argnums=1, out_shardings=wanted.sharding.with_memory_kind(DEVICE))
        return jax.device_put(fill(array, wanted.shape), wanted.sharding)

    return jax.tree.map(refill, stored, like)


def filled_up(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The array with zeros behind it up to a shape; the very same one where it has that shape."""
    return array if shape == array.shape else jnp.pad(array, [(0, whole - size)
                                                              for whole, size in zip(shape, array.shape)])


def dotted(path: Sequence[Any]) -> str:
    """A key path of nnx.State as text, without the Variable's own `value`."""
    return ".".join(name for name in map(key_name, path) if name != "value")


def key_name(key: Any) -> str:
    """Of a step in a key path, whatever kind of container it goes into."""
    return str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
