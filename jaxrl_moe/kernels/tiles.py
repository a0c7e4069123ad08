"""Walks over rows sorted by expert, so that each step multiplies rows of one expert by its matrices; nothing
is dropped.

    Tiles   one tile of rows a step, read and written where it lies: for CPUs, whose cache a tile's products
            stay in
    Blocks  some blocks of rows a step, each with a copy of its expert's matrices, as one batched product:
            for GPUs

Both have the same methods, so that a kernel is one loop over `count` steps, whatever the walk. A walk's
`store` holds what the steps put, in the walk's own order; `finished` brings it back into the order of the
rows. Rows of a step that are not `valid` must be put as zeros: those of the last tile stay.

Letters: R rows, E experts, n blocks of a step, b rows of a block, k steps.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxrl_moe.kernels.weight import taken

SIZES = (16, 32, 64, 128)
BLOCK = 128        # rows of a block
STEP_BLOCKS = 64   # blocks whose experts' matrices are copied at once


class Tiles(NamedTuple):
    """Expert e's tiles start at its first row; its last tile may reach into the next expert's rows, or past
    the last row, where arrays must have `size` more. Tiles are visited in order and each writes all its rows,
    so the next expert's first tile overwrites what does not belong. Only occupied tiles are visited: work
    follows the true group sizes."""
    size: int
    count: jax.Array   # steps: occupied tiles, a traced scalar
    expert: jax.Array  # [tiles] the expert of each tile
    start: jax.Array   # [tiles] its first row
    end: jax.Array     # [tiles] one past its expert's last row

    def rows(self, x: jax.Array, i: jax.Array) -> jax.Array:
        """x's rows of step i."""
        return lax.dynamic_slice_in_dim(x, self.start[i], self.size)

    kept = rows   # what was put by step i

    def experts(self, i: jax.Array) -> jax.Array:
        """The expert of step i."""
        return self.expert[i]

    def valid(self, i: jax.Array) -> jax.Array:
        """True on the rows of step i that belong to its experts, to be multiplied with them by
        broadcasting."""
        return (self.start[i] + jnp.arange(self.size) < self.end[i])[:, None]

    def store(self, x: jax.Array, width: int) -> jax.Array:
        """Zeros for what steps put, `width` numbers for each of x's rows."""
        return jnp.zeros((x.shape[0], width), x.dtype)

    def put(self, store: jax.Array, y: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(store, y.astype(store.dtype), self.start[i], 0)

    def add(self, total: jax.Array, matrices: jax.Array, i: jax.Array) -> jax.Array:
        """total [E, ...] with step i's matrices added to those of its experts."""
        updated = taken(total, self.expert[i]) + matrices.astype(total.dtype)
        return lax.dynamic_update_index_in_dim(total, updated, self.expert[i], 0)

    def finished(self, store: jax.Array, rows: int) -> jax.Array:
        return store[:rows]


def tile_size(rows: int, experts: int) -> int:
    """A power of two near the mean group, within bounds that keep the products efficient."""
    mean = max(1, rows // max(1, experts))
    return next((size for size in SIZES if size >= mean), SIZES[-1])


def plan(group_sizes_E: jax.Array, rows: int, size: int) -> Tiles:
    """Plans the tiles of groups that together fill at most `rows` rows."""
    experts = group_sizes_E.shape[0]
    ends_E = jnp.cumsum(group_sizes_E)
    tiles_E = -(-group_sizes_E // size)
    last_E = jnp.cumsum(tiles_E)
    index = jnp.arange(rows // size + experts)
    expert = jnp.minimum(jnp.searchsorted(last_E, index, side="right"), experts - 1)
    start = (ends_E - group_sizes_E)[expert] + (index - (last_E - tiles_E)[expert]) * size
    return Tiles(size, last_E[-1], expert, start, ends_E[expert])


class Blocks(NamedTuple):
    """Groups padded to whole blocks, of which a step takes n."""
    count: jax.Array | int  # steps
    expert_kn: jax.Array    # the expert of each block
    row_knb: jax.Array      # its rows, past the last one where there is none
    slot_R: jax.Array       # of each row among the blocks' rows, past the last one for rows of no group

    def rows(self, x: jax.Array, i: jax.Array) -> jax.Array:
        return x.at[self.row_knb[i]].get(mode="fill", fill_value=0)

    def experts(self, i: jax.Array) -> jax.Array:
        """[n] the experts of step i's blocks."""
        return self.expert_kn[i]

    def valid(self, i: jax.Array) -> jax.Array:
        return (self.row_knb[i] < self.slot_R.shape[0])[..., None]

    def store(self, x: jax.Array, width: int) -> jax.Array:
        return jnp.zeros((*self.row_knb.shape, width), x.dtype)

    def put(self, store: jax.Array, y: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_update_index_in_dim(store, y.astype(store.dtype), i, 0)

    def kept(self, store: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_index_in_dim(store, i, keepdims=False)

    def add(self, total: jax.Array, matrices: jax.Array, i: jax.Array) -> jax.Array:
        """As a product with ones and zeros: scattered adds come in any order on a GPU, or one by one if the
        order is to be fixed."""
        own_En = (jnp.arange(total.shape[0])[:, None] == self.expert_kn[i]).astype(total.dtype)
        return total + jnp.einsum("en,nio->eio", own_En, matrices, precision=lax.Precision.HIGHEST).astype(
            total.dtype)

    def finished(self, store: jax.Array, rows: int) -> jax.Array:
        return store.reshape(-1, store.shape[-1]).at[self.slot_R[:rows]].get(mode="fill", fill_value=0)


def blocks(group_sizes_E: jax.Array, rows: int, share: int = 1) -> Blocks:
    """Plans the blocks of groups that together fill at most `rows` rows, one in `share` of which is expected
    to belong to a group.

    Where all are, a fixed number of steps costs a step or two, and a bound that the device computes would
    make a GPU's host wait for it before each of them.
    """
    tiles = plan(group_sizes_E, rows, BLOCK)
    count = tiles.expert.shape[0]
    row_nb = tiles.start[:, None] + jnp.arange(BLOCK)
    occupied_n1 = (jnp.arange(count) < tiles.count)[:, None]
    row_nb = jnp.where((row_nb < tiles.end[:, None]) & occupied_n1, row_nb, rows)
    n = min(STEP_BLOCKS, count)
    pad = -count % n
    expert_kn = jnp.pad(tiles.expert, (0, pad), mode="edge").reshape(-1, n)
    row_knb = jnp.pad(row_nb, ((0, pad), (0, 0)), constant_values=rows).reshape(-1, n, BLOCK)
    steps = -(-tiles.count // n) if share > 1 else expert_kn.shape[0]
    return Blocks(steps, expert_kn, row_knb, _slots(group_sizes_E, rows))


def _slots(group_sizes_E: jax.Array, rows: int) -> jax.Array:
    """Row k of an expert is row k % b of its block k // b."""
    ends_E = jnp.cumsum(group_sizes_E)
    blocks_E = -(-group_sizes_E // BLOCK)
    expert_R = jnp.minimum(jnp.searchsorted(ends_E, jnp.arange(rows), side="right"), len(group_sizes_E) - 1)
    first_E = (jnp.cumsum(blocks_E) - blocks_E) * BLOCK - (ends_E - group_sizes_E)
    return jnp.where(
        jnp.arange(rows) < ends_E[-1], first_E[expert_R] + jnp.arange(rows),
        jnp.iinfo(jnp.int32).max)
