"""Cutting rows sorted by expert into tiles of one expert each, without padding between groups.

Expert e's tiles start at its first row; its last tile may reach into the next expert's rows. Tiles are visited in order
and each writes all its rows, so the next expert's first tile overwrites what does not belong. Only occupied tiles are
visited: work follows the true group sizes, and nothing is dropped.
"""
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

SIZES = (16, 32, 64, 128)


class Tiles(NamedTuple):
    """The tile plan. `size` rows a tile; `count` is how many tiles are occupied, a traced scalar."""
    size: int
    count: Any
    expert: Any   # [tiles] the expert of each tile
    start: Any    # [tiles] its first row
    end: Any      # [tiles] one past its expert's last row


def tile_size(rows: int, experts: int) -> int:
    """A power of two near the mean group, within bounds that keep the products efficient."""
    mean = max(1, rows // max(1, experts))
    return next((size for size in SIZES if size >= mean), SIZES[-1])


def plan(group_sizes_E, rows: int, size: int) -> Tiles:
    """Plans the tiles of groups that together fill at most `rows` rows."""
    experts = group_sizes_E.shape[0]
    ends_E = jnp.cumsum(group_sizes_E)
    tiles_E = -(-group_sizes_E // size)
    last_E = jnp.cumsum(tiles_E)
    index = jnp.arange(rows // size + experts)
    expert = jnp.minimum(jnp.searchsorted(last_E, index, side="right"), experts - 1)
    start = (ends_E - group_sizes_E)[expert] + (index - (last_E - tiles_E)[expert]) * size
    return Tiles(size, last_E[-1], expert, start, ends_E[expert])


def take(array, index):
    """array[index] for a traced index, as a slice."""
    return lax.dynamic_index_in_dim(array, index, keepdims=False)


def rows_at(array, start, size):
    return lax.dynamic_slice_in_dim(array, start, size)


def put_rows(array, update, start):
    return lax.dynamic_update_slice_in_dim(array, update.astype(array.dtype), start, 0)


def add_at(array, update, index):
    return lax.dynamic_update_index_in_dim(array, take(array, index) + update.astype(array.dtype), index, 0)


def valid_rows(tiles: Tiles, i):
    """[size, 1] True on the rows of tile i that belong to its expert."""
    return (tiles.start[i] + jnp.arange(tiles.size) < tiles.end[i])[:, None]
