"""Arrays kept in the host's memory between uses: put there once, streamed to the devices inside the programs
that read them."""
from typing import Any

import jax

KIND = "pinned_host"


def available() -> bool:
    """Whether the devices of this backend reach pinned memory of their host."""
    return any(memory.kind == KIND for memory in jax.local_devices()[0].addressable_memories())


def to_host(tree: Any) -> Any:
    """The arrays in their host's memory, split over the devices as before; scalars stay where they are."""
    return jax.tree.map(
        lambda leaf: jax.device_put(leaf, leaf.sharding.with_memory_kind(KIND)) if leaf.ndim else leaf, tree)


def streamed_in(tree: Any) -> Any:
    """Inside jit: the arrays of `to_host` in the devices' memory."""
    return _moved(tree, jax.memory.Space.Device)


def streamed_out(tree: Any) -> Any:
    """Inside jit: back to the host's memory."""
    return _moved(tree, jax.memory.Space.Host)


def _moved(tree: Any, space: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.device_put(leaf, space) if leaf.ndim else leaf, tree)
