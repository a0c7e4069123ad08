"""The paged key/value cache. Page 0 takes the writes of padding tokens and is never read."""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_moe.model.config import ModelConfig

TRASH_PAGE = 0


class PagedCache(NamedTuple):
    """Keys and values of every layer, [L, pages, page_size, K, H].

    A family may have a cache of its own: a named tuple of arrays that lead with [L, pages, page_size], with
    `zeros`, `axes` and `token_bytes` as here, which its own mixers write and read.
    """
    k: Any
    v: Any

    @property
    def page_size(self) -> int:
        return self.k.shape[2]

    @classmethod
    def zeros(cls, config: ModelConfig, num_pages: int, page_size: int, dtype: Any) -> "PagedCache":
        shape = (config.num_layers, num_pages, page_size, config.num_kv_heads, config.head_dim)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @classmethod
    def axes(cls) -> "PagedCache":
        """The logical axes of each array: see distributed.sharding.RULES; pages go with the rows that they
        belong to."""
        return cls(*((None, "pages", None, "heads"),) * 2)

    @staticmethod
    def token_bytes(config: ModelConfig, itemsize: int, tensor: int) -> int:
        """Of one token in all layers, on one of `tensor` devices that share its heads."""
        heads = config.num_kv_heads // tensor
        return 2 * itemsize * config.num_layers * heads * config.head_dim

    def write(self, layer: Any, k_UTKH: jax.Array, v_UTKH: jax.Array, positions_UT: jax.Array,
              pages_UJ: jax.Array) -> "PagedCache":
        """Stores the new tokens' keys and values at their positions; positions below 0 are padding."""
        slot = jnp.clip(positions_UT // self.page_size, 0, pages_UJ.shape[1] - 1)
        page = jnp.where(positions_UT < 0, TRASH_PAGE, jnp.take_along_axis(pages_UJ, slot, axis=1))
        offset = positions_UT % self.page_size
        return PagedCache(self.k.at[layer, page, offset].set(k_UTKH),
                          self.v.at[layer, page, offset].set(v_UTKH))

    def read(self, layer: Any, pages_UJ: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns keys and values [U, S, K, H] of the visible pages, S = J * page_size, in order of
        position."""
        k, v = (array.at[layer, pages_UJ].get(mode="promise_in_bounds") for array in self)
        rows, pages, size, heads, width = k.shape
        return k.reshape(rows, pages * size, heads, width), v.reshape(rows, pages * size, heads, width)
