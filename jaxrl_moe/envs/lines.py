"""Lines to a program and from it, each within a time: what may hang is never waited for without end."""
import os
import select
import time
from typing import IO

from jaxrl_moe.outside import OutsideError

_CHUNK = 2**16


class TooLong(OutsideError):
    """A program writes a line beyond what it may."""


class Lines:
    """One thread uses them at a time. What is waited for past a deadline raises TimeoutError, and what has
    ended EOFError.

    Args:
      writing, reading: the program's input and output, unbuffered.
      name: of the program, for messages.
      most: bytes of a line that it writes.
    """

    def __init__(self, writing: IO[bytes], reading: IO[bytes], name: str, most: int):
        self._writing = writing
        self._reading = reading
        self._name = name
        self._most = most
        self._unread = bytearray()
        os.set_blocking(writing.fileno(), False)

    def send(self, line: bytes, deadline: float) -> None:
        """Sends a line, given without its end; the deadline is one of time.monotonic()."""
        left = line + b"\n"
        while left:
            self._wait(self._writing, select.POLLOUT, deadline)
            try:
                left = left[os.write(self._writing.fileno(), left):]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise EOFError from error

    def receive(self, deadline: float) -> bytes:
        """The next line, without its end.

        Raises:
          TooLong: it is longer than a line may be.
          OutsideError: more follows, which nobody has asked for.
        """
        chunk = self._unread
        while b"\n" not in chunk:  # what has come before was searched before
            if len(self._unread) > self._most:
                raise TooLong(f"{self._name} answers a line of more than {self._most} bytes.")
            self._wait(self._reading, select.POLLIN, deadline)
            chunk = os.read(self._reading.fileno(), _CHUNK)
            if not chunk:
                raise EOFError
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        if self._unread:
            raise OutsideError(f"{self._name} answers more than it is asked.")
        return bytes(line)

    def _wait(self, stream: IO[bytes], event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()  # and not select(), whose descriptors are below 1,024
        poll.register(stream, event)
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
