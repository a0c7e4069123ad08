"""Messages between the process that judges and those that are shut in: a line of JSON with the sizes of what
follows, and then the bytes of arrays. Both sides have this file; it needs Python alone.

Nothing in a message is run or unpickled: whoever reads one checks what it says.
"""
import json
from typing import Any, BinaryIO

CONFIRMING = 3  # number of the pipe by which a process says that its fork has ended
LONGEST_HEAD = 2**20  # bytes of the line


class FrameError(Exception):
    """What came is no message."""


def write(stream: BinaryIO, head: dict[str, Any], parts: list[bytes] = ()) -> None:
    """Sends a message."""
    line = json.dumps({"head": head, "sizes": [len(part) for part in parts]}).encode()
    for part in (line + b"\n", *parts):
        left = memoryview(part)
        while left:
            left = left[stream.write(left):]  # a pipe without a buffer takes what it has room for
    stream.flush()


def read(stream: BinaryIO, most: int) -> tuple[dict[str, Any], list[bytes]] | None:
    """The next message; None where there is none any more.

    Args:
      most: bytes that its parts may have together.

    Raises:
      FrameError: it is none, or too large.
    """
    line = stream.readline(LONGEST_HEAD)
    if not line:
        return None
    try:
        told = json.loads(line)
        head, sizes = told["head"], told["sizes"]
        sound = (isinstance(head, dict) and isinstance(sizes, list)
                 and all(type(size) is int and size >= 0 for size in sizes))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FrameError(f"a message begins with what is no head: {line[:80]!r}") from error
    if not sound or sum(sizes) > most:
        raise FrameError(f"a message of {sum(sizes) if sound else 'unknown'} bytes, and {most} are the most")
    return head, [_exactly(stream, size) for size in sizes]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise FrameError("a message ends too early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
