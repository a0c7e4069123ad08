"""What process 0 tells the others: values of plain parts and NumPy arrays. Every bit of an array is kept;
nothing in a message is run."""
import itertools
import json
import math
from typing import Any

import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils

ARRAY = "<array>"  # key of what stands for an array: [dtype, shape, first byte]
HEAD = 8           # bytes that tell how long something is
# a leader at work may take long (graders, downloads); one that died ends the job by its heartbeat
PATIENCE_MS = 24 * 3600 * 1000
# messages after which all processes wait for each other, and old ones are forgotten
SWEEP = 32
# bytes beyond which a message goes over the devices' network, at ten times the speed
LARGE = 1 << 20
CHUNK = 1 << 24                 # bytes of such a message that are sent at once
_numbers = itertools.count()


def pack(value: Any) -> bytes:
    """The value as bytes.

    Raises:
      TypeError: it holds something that is neither plain (as JSON has it) nor an array.
    """
    arrays: list[bytes] = []
    size = 0

    def set_aside(item: Any) -> dict[str, list]:
        nonlocal size
        if not isinstance(item, np.ndarray):
            raise TypeError(f"a {type(item).__name__} cannot be sent to other processes")
        arrays.append(item.tobytes())
        size += item.nbytes
        return {ARRAY: [item.dtype.name, item.shape, size - item.nbytes]}

    text = json.dumps(value, default=set_aside).encode()
    return b"".join([len(text).to_bytes(HEAD, "little"), text, *arrays])


def unpack(data: bytes) -> Any:
    """The value; its tuples have become lists."""
    start = HEAD + int.from_bytes(data[:HEAD], "little")

    def read(item: dict[str, Any]) -> Any:
        if ARRAY not in item:
            return item
        name, shape, first = item[ARRAY]
        return np.frombuffer(data, name, math.prod(shape), start + first).reshape(shape).copy()

    return json.loads(data[HEAD:start], object_hook=read)


def tell(data: bytes) -> None:
    """Process 0's message to all others, who must `hear` it. Large ones go from device to device."""
    number = next(_numbers)
    client = distributed.global_state.client
    large = len(data) > LARGE
    client.key_value_set_bytes(_key(number),
                               bytes([large]) + (len(data).to_bytes(HEAD, "little") if large else data))
    if large:
        _spread(data, len(data))
    _sweep(client, number)


def hear() -> Any:
    """The next message of process 0, waited for."""
    number = next(_numbers)
    client = distributed.global_state.client
    data = client.blocking_key_value_get_bytes(_key(number), PATIENCE_MS)
    large = data[0]
    data = data[1:]
    if large:
        data = _spread(None, int.from_bytes(data, "little"))
    _sweep(client, number)
    return unpack(data)


def _spread(data: bytes | None, size: int) -> bytes:
    """The bytes of process 0 in all processes, by a collective over the devices; None elsewhere."""
    chunks = []
    for start in range(0, size, CHUNK):
        chunk = np.zeros(CHUNK, np.uint8)
        if data is not None:
            own = data[start:start + CHUNK]
            chunk[:len(own)] = np.frombuffer(own, np.uint8)
        chunks.append(np.asarray(multihost_utils.broadcast_one_to_all(chunk)).tobytes())
    return b"".join(chunks)[:size]


def _sweep(client: Any, number: int) -> None:
    """Now and then all wait for each other, and what everybody has heard is forgotten."""
    if number % SWEEP == SWEEP - 1:
        client.wait_at_barrier(f"jaxrl_moe/sweep/{number}", PATIENCE_MS)
        if distributed.global_state.process_id == 0:
            for old in range(number - SWEEP + 1, number + 1):
                client.key_value_delete(_key(old))


def _key(number: int) -> str:
    return f"jaxrl_moe/answer/{number}"
