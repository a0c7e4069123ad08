"""Collectives over named mesh axes, for code that runs once per device inside `shard_map`.

Model code calls these wherever an array may be split; outside a mesh, or on an axis of size one, each is the
identity, so that the single-device program stays what it was. Which axes there are is known while a program
is traced (`inside`).

Gradients: programs are mapped with check_vma=False, where copies of a replicated array are variables of their
own. The gradient of `total` is then `total` again, and whoever writes a derivative by hand must follow (see
token_logprobs).
"""
import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

AXES = ("data", "fsdp", "expert", "tensor", "context")
ROWS = ("data", "fsdp", "expert")  # axes that split the rows of a batch
TOKENS = (*ROWS, "context")        # axes that split its tokens
DRAWN = ("data", "fsdp")           # axes that split the rows of a rollout


@dataclasses.dataclass(frozen=True)
class Layout:
    """Sizes of the mesh axes, and how tokens travel to their experts.

    Attributes:
      transport: a row of expert_parallel.TRANSPORTS.
      capacity_factor: see expert_parallel.capacity.
      in_host: how many neighbours along the expert axis share a host, where the axis spans several hosts and
        tokens so travel in two stages; 0: one stage.
    """
    sizes: tuple[int, ...] = (1,) * len(AXES)
    transport: str = "gather"
    capacity_factor: float = 0.0
    in_host: int = 0

    @classmethod
    def of(cls, sizes: Mapping[str, int], **options: Any) -> "Layout":
        return cls(tuple(sizes.get(axis, 1) for axis in AXES), **options)

    def size(self, axis: str) -> int:
        return self.sizes[AXES.index(axis)]


_layout = contextvars.ContextVar("layout", default=Layout())  # noqa: B039  (frozen)


@contextlib.contextmanager
def inside(layout: Layout) -> Iterator[None]:
    """While tracing the body of a shard_map over a mesh of this layout."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def layout() -> Layout:
    """The layout that the present program is traced for."""
    return _layout.get()


def size(*axes: str) -> int:
    """Devices along the axes together."""
    count = 1
    for axis in axes:
        count *= layout().size(axis)
    return count


def index(*axes: str):
    """This device's number along the axes together, the first axis being the slowest."""
    number = jnp.zeros((), jnp.int32)
    for axis in _split(axes):
        number = number * layout().size(axis) + lax.axis_index(axis)
    return number


def total(x: jax.Array, *axes: str):
    """The sum over the devices along the axes."""
    split = _split(axes)
    return lax.psum(x, split) if split else x


def gather(x: jax.Array, axis: str, dim: int):
    """The parts of all devices along an axis, one after the other along dim."""
    return lax.all_gather(x, axis, axis=dim % x.ndim, tiled=True) if layout().size(axis) > 1 else x


def total_scattered(x: jax.Array, axis: str, dim: int):
    """The sum over an axis of which each device keeps its own part along dim: what undoes `gather`."""
    if layout().size(axis) == 1:
        return x
    return lax.psum_scatter(x, axis, scatter_dimension=dim % x.ndim, tiled=True)


def weight(x: jax.Array, dim: int | None):
    """A weight as its layer computes with it: gathered over fsdp along dim (None: it is whole).

    Parts are gathered on an axis of their own, which then moves to its place: gathering along `dim` itself,
    XLA would want it to lead in memory, and bring the weights of all layers into such a layout before the
    loop over them.
    """
    if dim is None or layout().size("fsdp") == 1:
        return x
    dim %= x.ndim
    parts = jnp.moveaxis(lax.all_gather(x, "fsdp"), 0, dim)
    return parts.reshape(*x.shape[:dim], -1, *x.shape[dim + 1:])


MOVED = ("transpose", "reshape")


def all_but_gathered_weights(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """A policy for jax.checkpoint: everything is kept but gathered weights, which the backward pass gathers
    again, and what is merely laid out anew, as they are."""
    return not (primitive.name in MOVED
                or primitive.name.startswith("all_gather") and "fsdp" in parameters["axis_name"])


def local_key(key: jax.Array, *axes: str) -> jax.Array:
    """A key for noise on values that are split along the axes, so that no two devices draw the same."""
    return jax.random.fold_in(key, index(*axes)) if _split(axes) else key


def _split(axes: Any) -> tuple[str, ...]:
    return tuple(axis for axis in axes if layout().size(axis) > 1)
