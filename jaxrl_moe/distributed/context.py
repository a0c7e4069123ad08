"""Which tokens of a row each device of the context axis holds, so that causal attention is equal work for all
of them.

A row is cut into 2 n chunks, and device i of n holds chunks i and 2 n - 1 - i (the layout of Llama 3, arXiv
2407.21783, section 3.3.2): whatever i is, its two chunks of queries meet 2 n + 1 chunks of keys, two of them
their own, half hidden. Keys and values of whole rows are gathered in each layer, and gathered again in the
backward pass if train.remat says so: for that time a device holds 2 T K H numbers a row.
"""
import functools
from typing import Any

import numpy as np


def chunk_order(parts: int) -> list[int]:
    """The chunks of a row in the order in which the devices hold them."""
    return [chunk for index in range(parts) for chunk in (index, 2 * parts - 1 - index)]


def to_devices(x: Any, axis: int, parts: int):
    """Tokens along an axis, from the order of the row to that in which the devices hold them."""
    return _chunks_taken(x, axis, chunk_order(parts))


def from_devices(x: Any, axis: int, parts: int):
    """The reverse of to_devices."""
    return _chunks_taken(x, axis, np.argsort(chunk_order(parts)))


def _chunks_taken(x: Any, axis: int, order: Any):
    if len(order) <= 2:
        return x
    if x.shape[axis] % len(order):
        raise ValueError(f"{x.shape[axis]} tokens cannot be cut into {len(order)} chunks, two for each "
                         "device of the context axis: lay rows out with the learner's shards.")
    chunks = x.reshape(*x.shape[:axis], len(order), -1, *x.shape[axis + 1:])
    return chunks[(slice(None),) * axis + (np.asarray(order),)].reshape(x.shape)


@functools.cache
def block_pairs(parts: int, blocks: int) -> np.ndarray:
    """[n, P, 2]: for each device the pairs (block of its own queries, block of all keys) in which a query
    sees a key of its row.

    Both are numbered as they lie on the devices. Chunks are cut into `blocks` blocks; every device has as
    many pairs.
    """
    order = chunk_order(parts)
    lies_at = {chunk * blocks + block: position * blocks + block
               for position, chunk in enumerate(order) for block in range(blocks)}
    return np.array([[(local * blocks + block, lies_at[key])
                      for local, chunk in enumerate(order[2 * device:2 * device + 2])
                      for block in range(blocks) for key in range(chunk * blocks + block + 1)]
                     for device in range(parts)], np.int32)
