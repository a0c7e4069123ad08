"""Weight kinds that the library does not know: int8 codes with a scale for each output."""
import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_moe.kernels.weight import Transposed, bytes_of, dot, taken


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8:
    """codes [*stack, in, out], scales [*stack, 1, out]; a product decodes what it is asked of, no more."""
    codes: jax.Array
    scales: jax.Array
    dtype: np.dtype = dataclasses.field(default=np.dtype("float32"), metadata={"static": True})
    trains: ClassVar[bool] = False

    @classmethod
    def of(cls, array):
        scales = jnp.abs(array).max(axis=-2, keepdims=True).astype(jnp.float32) / 127
        return cls(jnp.round(array / scales).astype(jnp.int8), scales, np.dtype(array.dtype))

    @property
    def shape(self):
        return self.codes.shape

    @property
    def nbytes(self):
        return bytes_of(self)

    def decoded(self, dtype):
        return (self.codes.astype(jnp.float32) * self.scales).astype(dtype)

    def matmul(self, x, dtype=None):
        return dot(x, self.decoded(x.dtype), 0, dtype)

    def matmul_t(self, g, dtype=None):
        return dot(g, self.decoded(g.dtype), 1, dtype)

    def take(self, index):
        return taken(self, index)

    def rows(self, ids):
        return Int8(self.codes[ids], self.scales).decoded(self.dtype)

    def transposed(self):
        return Transposed(self)

    def gathered(self, gather, axis):
        scales = gather(self.scales, axis) if axis == -1 else self.scales
        return Int8(gather(self.codes, axis), scales, self.dtype)

    def dense(self, dtype):
        return self.decoded(dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hidden(Int8):
    """As Int8, but it gives no dense matrix away."""

    def dense(self, dtype):
        return None
