"""Every collective that the programs use, run over each axis of a mesh and compared with the sums done on the
host."""
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxrl_moe.distributed import collectives, ragged, stages
from jaxrl_moe.distributed.collectives import AXES, inside
from jaxrl_moe.distributed.sharding import Placement
from jaxrl_moe.hosts.hosts import fetch

WIDTH = 4  # rows that each device holds


def check_collectives(placement: Placement) -> Iterator[tuple[str, str, float]]:
    """Yields (axis, collective, largest difference) for every axis with more than one device."""
    for axis in AXES:
        size = placement.layout.size(axis)
        if size > 1:
            parts = np.arange(size * size * WIDTH, dtype=np.float32).reshape(size, size * WIDTH)
            for name, function, expected in _cases(placement, axis, size, parts):
                yield axis, name, float(np.abs(_run(placement, axis, function, parts) - expected).max())


def _cases(placement: Placement, axis: str, size: int, parts: int):
    """(name, what a device does with its part, what all devices together give, one row each)."""
    layout = placement.layout
    summed = np.tile(parts.sum(axis=0), (size, 1))
    exchanged = parts.reshape(size, size, WIDTH).swapaxes(0, 1).reshape(size, -1)
    cases = [("psum", lambda x: collectives.total(x, axis), summed),
             ("pmax", lambda x: jax.lax.pmax(x, axis), np.tile(parts.max(axis=0), (size, 1))),
             ("all_gather", lambda x: collectives.gather(x, axis, 0), np.tile(parts.reshape(-1), (size, 1))),
             ("psum_scatter", lambda x: collectives.total_scattered(x, axis, 0),
              parts.sum(axis=0).reshape(size, WIDTH)),
             ("all_to_all", lambda x: jax.lax.all_to_all(x.reshape(size, WIDTH), axis, 0, 0).reshape(-1),
              exchanged)]
    if axis == "expert" and layout.in_host:
        cases += [("all_to_all in two stages", stages.exchanged, exchanged),
                  ("all_gather and psum_scatter in two stages",
                   lambda x: stages.scattered(stages.gathered(x)), size * parts)]
    if axis == "expert" and layout.transport == "ragged":
        cases += [("ragged_all_to_all", _ragged, exchanged),
                  ("the gradient of ragged_all_to_all", lambda x: jax.vjp(_ragged, x)[1]
                   (_ragged(x))[0], parts)]
    return cases


def _ragged(x: jax.Array):
    """An all-to-all of equal parts."""
    size = collectives.size("expert")
    offsets = WIDTH * jnp.arange(size)
    sizes = jnp.full(size, WIDTH)
    route = ragged.Route(offsets, sizes, jnp.full(size, WIDTH * collectives.index("expert")), sizes)
    return ragged.moved(x.shape * 2, x, route, route)


def _run(placement: Placement, axis: str, function: Any, parts: int):
    """[devices along the axis, ...]; other axes do the same and agree."""
    def local(shard: Any):
        with inside(placement.layout):
            return function(shard[0])[None]

    split = PartitionSpec(axis)
    mapped = jax.shard_map(local, mesh=placement.mesh, in_specs=split, out_specs=split, check_vma=False)
    return fetch(jax.jit(mapped)(parts))
