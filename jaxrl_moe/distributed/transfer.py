"""Weights from the devices that train to those that draw, device to device.

jax.device_put goes by way of the host wherever a device's part of an array is not, as it stands, a part on
some device of the source. Here the pieces of each part are cut where they lie, sent to the device, and joined
there.
"""
import itertools
import time
import weakref
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from jaxrl_moe.distributed.sharding import Placement, cut_one, dotted, filled_up

Box = tuple[tuple[int, int], ...]  # start and end along each dimension


class Transfer:
    """A model's weights on another mesh: copies, which share nothing with the arrays they are copies of.

    Arrays that come again as they were (the frozen base under LoRA) are not moved again. The old copy of an
    array that has changed is freed before the new one is made, so that two versions never share the memory:
    nothing else may hold on to what this returned before.

    Args:
      placement: where the copies lie.
      vocab_size: of the model; what another mesh filled its vocabulary up with is left behind.
    """

    def __init__(self, placement: Placement, vocab_size: int):
        self._placement = placement
        self._vocab_size = vocab_size
        self._copies: dict[str, tuple[weakref.ref, jax.Array]] = {}

    def __call__(self, params: Any) -> tuple[Any, dict[str, float]]:
        """The copies of a state's arrays, once they are there; and how long that took, with the bytes that
        reached all devices."""
        start = time.perf_counter()
        sent = []
        copies = jax.tree_util.tree_map_with_path(lambda path, leaf: self._copy(dotted(path), leaf, sent),
                                                  params)
        jax.block_until_ready(copies)
        return copies, {"sync/bytes": float(sum(sent)), "sync/move_s": time.perf_counter() - start}

    def _copy(self, path: str, array: jax.Array, sent: list[int]) -> jax.Array:
        source, copy = self._copies.get(path, (None, None))
        if source is not None:
            if source() is array:
                return copy
            copy.delete()
        inner = cut_one(path, array, self._vocab_size)
        shape, sharding = self._placement.laid_out(path, inner.shape)
        copy = moved(filled_up(inner, shape), sharding)
        sent.append(sum(shard.data.nbytes for shard in copy.addressable_shards))
        self._copies[path] = weakref.ref(array), copy
        return copy


def moved(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    """A copy of the array on other devices of this process, laid out as `sharding` says."""
    shape = array.shape
    held = {}
    for shard in array.addressable_shards:
        held.setdefault(_box(shard.index, shape), []).append(shard.data)
    parts = []
    for number, (device, index) in enumerate(sharding.addressable_devices_indices_map(shape).items()):
        pieces = {}
        for box, copies in held.items():
            common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, _box(index, shape)))
            if all(start < end for start, end in common):
                # so that all devices of the source have a share in the sending
                piece = copies[number % len(copies)]
                if common != box:
                    piece = piece[tuple(
                        slice(start - first, end - first) for (start, end), (first, _) in zip(common, box))]
                pieces[tuple(start for start, _ in common)] = jax.device_put(piece, device)
        parts.append(_joined(pieces, array.ndim))
    return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _joined(pieces: dict[tuple[int, ...], jax.Array], ndim: int) -> jax.Array:
    """The box that the pieces tile as a grid; each is named by where it starts."""
    for axis in reversed(range(ndim)):
        lines = itertools.groupby(sorted(pieces),
                                  key=lambda start: start[:axis])  # noqa: B023  (used at once)
        lines = {start: [pieces[corner] for corner in line] for start, line in lines}
        pieces = {
            start: line[0] if len(line) == 1 else jnp.concatenate(line, axis)
            for start, line in lines.items()
        }
    return pieces[()]


def _box(index: tuple[slice, ...], shape: tuple[int, ...]) -> Box:
    return tuple(span.indices(size)[:2] for span, size in zip(index, shape))
