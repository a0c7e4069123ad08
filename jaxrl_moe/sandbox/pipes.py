"""Pipes to a program and from it, served as they are ready, so that neither side waits for the other."""
import contextlib
import fcntl
import os
import select
import time
from collections.abc import Callable
from typing import IO

_CHUNK = 2**16
_HIGH = 10  # lower numbers are the program's


class Pipes:
    """One thread serves them.

    Args:
      most: bytes that are kept of all that is read.
    """

    def __init__(self, most: int):
        self._left = most
        self._poll = select.poll()
        self._served: dict[int, Callable[[], bool]] = {}
        self.over = False  # more was read than is kept

    def serve(self, descriptor: int, event: int, ready: Callable[[], bool]) -> None:
        """Calls `ready` when a descriptor is, until it says False."""
        self._served[descriptor] = ready
        self._poll.register(descriptor, event)

    def keep(self, pipe: IO[bytes]) -> bytearray:
        """What is read of a pipe, which grows."""
        kept = bytearray()

        def ready() -> bool:
            chunk = os.read(pipe.fileno(), _CHUNK)
            kept.extend(chunk[:self._left])
            self.over |= len(chunk) > self._left
            self._left -= min(len(chunk), self._left)
            return bool(chunk)
        self.serve(pipe.fileno(), select.POLLIN, ready)
        return kept

    def send(self, pipe: IO[bytes], data: bytes) -> None:
        """Writes all of it, then closes the pipe."""
        left = memoryview(data)

        def ready() -> bool:
            nonlocal left
            with contextlib.suppress(BrokenPipeError):
                left = left[os.write(pipe.fileno(), left[:_CHUNK]):]
                if left:
                    return True
            pipe.close()
            return False
        if not data:
            pipe.close()
            return
        os.set_blocking(pipe.fileno(), False)
        self.serve(pipe.fileno(), select.POLLOUT, ready)

    def step(self, seconds: float) -> None:
        """Serves those that are ready within a time."""
        for descriptor, _ in self._poll.poll(max(0, seconds * 1000)):
            if not self._served[descriptor]():
                self.forget(descriptor)

    def serves(self, descriptor: int) -> bool:
        return descriptor in self._served

    def drain(self, seconds: float) -> None:
        """Serves all until they are done, at most for a time."""
        deadline = time.monotonic() + seconds
        while self._served and (left := deadline - time.monotonic()) > 0:
            self.step(left)

    def forget(self, descriptor: int) -> None:
        del self._served[descriptor]
        self._poll.unregister(descriptor)


def high(descriptor: int) -> int:
    """The same under a number that programs do not use themselves; the given one is closed."""
    raised = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(descriptor)
    return raised


def high_pipe() -> tuple[int, int]:
    """Both ends of a pipe, of such numbers."""
    reading, writing = os.pipe()
    return high(reading), high(writing)


def memory_file(content: bytes) -> int:
    """An unnamed file, at its beginning, of such a number."""
    made = high(os.memfd_create("sandbox"))
    with os.fdopen(os.dup(made), "wb") as file:
        file.write(content)
    os.lseek(made, 0, os.SEEK_SET)
    return made
