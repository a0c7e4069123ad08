"""Weights on their way to servers: one walk over the model feeds them all, each takes what it lacks, in
buckets."""
import dataclasses
import pathlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bridges.hf.streaming import TensorSet
from bridges.hf.tensor_files import NAMES, TensorInfo, create
from bridges.servers.http import EngineError, Unavailable

POLL_SECONDS = 0.2
Bucket = dict[str, np.ndarray]  # {Hugging Face's name: array}


class Delivery:
    """The sets that one server lacks, in buckets.

    Args:
      sets: all of the version's.
      held: {set's name: digest} of what the server has; these are left out.
      limit: bytes of a bucket; a larger tensor has one of its own.

    Attributes:
      digests: {set's name: digest} of the whole version, once all buckets were taken.
      bytes: of the buckets so far.
    """

    def __init__(self, sets: Iterator[TensorSet], held: Mapping[str, bytes], limit: int):
        self._sets = sets
        self._held = held
        self._limit = limit
        self.digests = {}
        self.bytes = 0

    def __iter__(self) -> Iterator[Bucket]:
        bucket = {}
        size = 0
        for tensor_set in self._sets:
            self.digests[tensor_set.name] = tensor_set.digest
            if self._held.get(tensor_set.name) == tensor_set.digest:
                continue
            if tensor_set.tensors is None:
                raise Unavailable(f"the server turned out to lack {tensor_set.name}, which was taken to be "
                                  "there; it gets all weights next")
            for key, array in tensor_set.tensors.items():
                if bucket and size + array.nbytes > self._limit:
                    yield bucket
                    bucket = {}
                    size = 0
                bucket[key] = array
                size += array.nbytes
                self.bytes += array.nbytes
        if bucket:
            yield bucket


def write_bucket(folder: pathlib.Path, bucket: Bucket) -> pathlib.Path:
    """Makes a folder with the bucket as a safetensors file. Raises EngineError when the disk is full."""
    try:
        folder.mkdir(parents=True)
        views = create(folder / "model.safetensors", {
            key: TensorInfo(NAMES[array.dtype], array.shape) for key, array in bucket.items()
        })
    except OSError as error:
        raise EngineError(f"A bucket of weights could not be left in {folder.parent}: {error.strerror}. Free "
                          "some space, lower servers.bucket_bytes, or name another folder by "
                          "servers.sync_folder.") from error
    for key, array in bucket.items():
        views[key][...] = array
    return folder


class Fan:
    """One walk, read by several threads; who gives up does not hold up the others.

    Args:
      walk: what all get, in order.
      readers: how many.

    Attributes:
      seconds: that the walk itself took.
    """

    def __init__(self, walk: Iterator, readers: int):
        self._walk = walk
        self.seconds = 0.0
        self.readers = [_Reader() for _ in range(readers)]

    def run(self) -> None:
        """Feeds the readers until the walk ends or all have left; what the walk raises is raised here, and to
        all of them."""
        try:
            while any(not reader.left.is_set() for reader in self.readers):
                start = time.perf_counter()
                item = next(self._walk, _END)
                self.seconds += time.perf_counter() - start
                self._give(item)
                if item is _END:
                    return
        except BaseException as error:
            self._give(_Failure(error))
            raise

    def _give(self, item: Any):
        for reader in self.readers:
            reader.give(item)


class _Reader:
    def __init__(self):
        self.left = threading.Event()
        self._queue = queue.Queue(1)

    def give(self, item: Any) -> None:
        while not self.left.is_set():
            try:
                return self._queue.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                pass

    def __iter__(self) -> Iterator:
        while (item := self._queue.get()) is not _END:
            if isinstance(item, _Failure):
                raise Unavailable(f"the weights could not be made: {item.error}") from item.error
            yield item

    def close(self) -> None:
        """Reads no further."""
        self.left.set()


_END = object()


@dataclasses.dataclass
class _Failure:
    error: BaseException
