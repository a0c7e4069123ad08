"""What kernels ask of a weight matrix, whatever it is stored as, and the dense kind.

A weight is a value: a pytree of arrays that stand for one matrix W [in, out], or for a stack of them [*stack,
in, out]. All of its arrays lead with the axes of the stack, so that a weight can be scanned over by layer,
taken apart by expert and split over devices as one array is. Kernels multiply with it and know no format.
"""
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class WeightMatrix(Protocol):
    """A matrix or a stack of them. Products are computed in the rows' dtype and accumulate in float32.

    A kind is a frozen dataclass registered as a pytree (jax.tree_util.register_dataclass). What it says of
    itself follows from its arrays as they are: a scan, `take` or a mesh gives the same kind with fewer or
    smaller ones.

    Attributes:
      trains: whether gradients by it are computed. Where not, rows get theirs and the weight is left alone,
        though it holds floats.
    """
    trains: ClassVar[bool]

    @property
    def shape(self) -> tuple[int, ...]:
        """[*stack, in, out] of what it stands for."""

    @property
    def dtype(self) -> np.dtype:
        """Of rows that are looked up, and of the model that it was made for; not of what it is stored as."""

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays that it is stored as, on all devices."""

    def matmul(self, x: jax.Array, dtype: Any = None) -> jax.Array:
        """x [*stack, ..., in] by W over in: [*stack, ..., out] in `dtype`, None for x's."""

    def matmul_t(self, g: jax.Array, dtype: Any = None) -> jax.Array:
        """g [*stack, ..., out] by W over out: [*stack, ..., in] in `dtype`, None for g's. What the backward
        pass of matmul needs.
        """

    def take(self, index: jax.Array) -> "WeightMatrix":
        """What stands at an index of the stack's first axis, such as one expert's matrix; at several indices,
        a stack of them.
        """

    def rows(self, ids: jax.Array) -> jax.Array:
        """[*ids.shape, out] in `dtype`: some rows of one matrix, as an embedding is looked up."""

    def transposed(self) -> "WeightMatrix":
        """[*stack, out, in]: the output matrix of an embedding. `Transposed` serves, where nothing better is
        at hand.
        """

    def gathered(self, gather: Callable[[jax.Array, int], jax.Array], axis: int) -> "WeightMatrix":
        """The whole of a weight that is split over devices along `axis`, -2 (in) or -1 (out): `gather`
        (array, axis) puts parts of an array together. Arrays that are not split along it, such as a scale for
        each output where it is `in`, stay as they are.
        """

    def dense(self, dtype: Any) -> jax.Array | None:
        """The numbers themselves, for kernels that take nothing else; None from a kind that has not got them,
        or must not spread them.
        """


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dense:
    """One array of floats [*stack, in, out]."""
    array: jax.Array
    trains: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        return bytes_of(self)

    def matmul(self, x: jax.Array, dtype: Any = None) -> jax.Array:
        return dot(x, self.array.astype(x.dtype), 0, dtype)

    def matmul_t(self, g: jax.Array, dtype: Any = None) -> jax.Array:
        return dot(g, self.array.astype(g.dtype), 1, dtype)

    def take(self, index: jax.Array) -> Self:
        return taken(self, index)

    def rows(self, ids: jax.Array) -> jax.Array:
        return self.array[ids]

    def transposed(self) -> "Dense":
        return Dense(self.array.swapaxes(-1, -2))

    def gathered(self, gather: Callable[[jax.Array, int], jax.Array], axis: int) -> "Dense":
        return Dense(gather(self.array, axis))

    def dense(self, dtype: Any) -> jax.Array:
        return self.array.astype(dtype)

    def gradient(self, total: jax.Array) -> "Dense":
        """A gradient [*stack, in, out], in float32, as the cotangent of this weight."""
        return Dense(total.astype(self.array.dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transposed:
    """A frozen weight the other way round: nothing is moved, its two products change places."""
    weight: WeightMatrix
    trains: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        *stack, size_in, size_out = self.weight.shape
        return *stack, size_out, size_in

    @property
    def dtype(self) -> np.dtype:
        return self.weight.dtype

    @property
    def nbytes(self) -> int:
        return self.weight.nbytes

    def matmul(self, x: jax.Array, dtype: Any = None) -> jax.Array:
        return self.weight.matmul_t(x, dtype)

    def matmul_t(self, g: jax.Array, dtype: Any = None) -> jax.Array:
        return self.weight.matmul(g, dtype)

    def take(self, index: jax.Array) -> "Transposed":
        return Transposed(self.weight.take(index))

    def rows(self, ids: jax.Array) -> jax.Array:
        return self.matmul(jax.nn.one_hot(ids, self.shape[-2], dtype=self.dtype))

    def transposed(self) -> WeightMatrix:
        return self.weight

    def gathered(self, gather: Callable[[jax.Array, int], jax.Array], axis: int) -> "Transposed":
        return Transposed(self.weight.gathered(gather, -3 - axis))

    def dense(self, dtype: Any) -> jax.Array | None:
        array = self.weight.dense(dtype)
        return None if array is None else array.swapaxes(-1, -2)


def weight_of(matrix: "jax.Array | np.ndarray | WeightMatrix") -> WeightMatrix:
    """The matrix as a weight: an array is a dense one."""
    return Dense(matrix) if isinstance(matrix, jax.Array | np.ndarray) else matrix


def multiply(x: jax.Array, weight: WeightMatrix, dtype: Any = None) -> jax.Array:
    """matmul with gradients: by x, and by a weight that trains. Of a frozen one the backward pass keeps what
    it is stored as, and decodes it again.
    """
    return weight.matmul(x, dtype) if weight.trains else _frozen(dtype, x, weight)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _frozen(dtype: Any, x: jax.Array, weight: WeightMatrix) -> jax.Array:
    return weight.matmul(x, dtype)


def _frozen_forward(dtype: Any, x: jax.Array, weight: WeightMatrix
                    ) -> tuple[jax.Array, tuple[WeightMatrix, jax.Array]]:
    dtype_like = jnp.zeros((0,), x.dtype)
    return weight.matmul(x, dtype), (weight, dtype_like)


def _frozen_backward(dtype: Any, saved: tuple[WeightMatrix, jax.Array], g: jax.Array
                     ) -> tuple[jax.Array, None]:
    weight, dtype_like = saved
    return weight.matmul_t(g.astype(dtype_like.dtype)), None


_frozen.defvjp(_frozen_forward, _frozen_backward)


def dense_of(weight: WeightMatrix, dtype: Any, user: str) -> jax.Array:
    """The weight as an array, for a kernel that takes nothing else.

    Raises:
      ValueError: the kind gives none; `user` is told as the one that asked.
    """
    array = weight.dense(dtype)
    if array is None:
        raise ValueError(f"{user} multiplies with dense matrices, and a weight of the kind "
                         f"{type(weight).__name__} is not given as one: use the backend tiles or padded, "
                         "which ask a weight for its products.")
    return array if weight.trains else lax.stop_gradient(array)


def taken(tree: Any, index: jax.Array) -> Any:
    """The arrays of a tree at one index of their first axes, or at several."""
    if jnp.ndim(index) == 0:
        return jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), tree)
    return jax.tree.map(lambda array: array[index], tree)


def bytes_of(tree: Any) -> int:
    """Of all arrays of a tree, or of their shapes."""
    return sum(array.size * array.dtype.itemsize for array in jax.tree.leaves(tree))


def dot(x: jax.Array, w: jax.Array, side: int = 0, dtype: Any = jnp.float32) -> jax.Array:
    """x [*stack, ..., in] by w [*stack, in, out] (side 0), or x [*stack, ..., out] by w over its last axis
    (side 1); in `dtype`, None for that of the operands.
    """
    batch = tuple(range(w.ndim - 2))
    dimensions = ((x.ndim - 1,), (w.ndim - 2 + side,)), (batch, batch)
    return lax.dot_general(x, w, dimensions, preferred_element_type=dtype)


def outer(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum over rows: x [*stack, m, in] and y [*stack, m, out] give [*stack, in, out]; float32."""
    batch = tuple(range(x.ndim - 2))
    rows = (x.ndim - 2,)
    return lax.dot_general(x, y, ((rows, rows), (batch, batch)), preferred_element_type=jnp.float32)
