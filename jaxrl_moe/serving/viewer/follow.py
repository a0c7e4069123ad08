"""A log that a run appends to, read as it grows; that it was cut back, or another put in its place, is
noticed."""
import os
import pathlib
from collections.abc import Callable
from typing import IO, NamedTuple

AT_ONCE = 1 << 22        # bytes of lines that are handed out together
LONGEST_LINE = 1 << 28   # bytes; a longer one is told of, not read
_MARK = 256              # bytes at the log's head, and before where reading stands, that it is known by


class Lines(NamedTuple):
    """Whole lines of a log: their bytes, which begin at `offset`. `data` is empty for a line of more than
    LONGEST_LINE bytes, `size` of them."""
    offset: int
    data: bytes
    size: int


class GrowingLog:
    """Hands out each whole line of a file once, in order; a last line without an end waits.

    One thread calls more(), or look() and lines(); others may read() meanwhile.

    Attributes:
      error: why more() cannot read the file; empty: it can.
      version: changes whenever what was handed out before is no longer how the file begins.
      offset: bytes that were handed out.
      size: of the file when it was last looked at; 0 where there is none.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.error = ""
        self.version = 0
        self.offset = 0
        self.size = 0
        self._file: IO[bytes] | None = None
        self._head = b""
        self._tail = b""

    def more(self, again: Callable[[], None]) -> Lines | None:
        """Looks at the file anew and hands out its next lines; where they begin anew, `again` is called
        before. None where there are no more for now, or `error` keeps from reading them."""
        try:
            if self.look():
                again()
            lines = self.lines()
        except OSError as error:
            self.error = f"{self.path} cannot be read: {error.strerror or error}."
            return None
        self.error = ""
        return lines

    def look(self) -> bool:
        """Looks at the file anew; whether its lines are to be taken from the beginning again.

        Raises:
          OSError: it cannot be read.
        """
        try:
            now = self.path.stat()
        except FileNotFoundError:
            now = None
        kept = self._file is not None and now is not None and self._goes_on(now)
        if kept or self._file is None and now is None:
            self.size = now.st_size if now else 0
            return False
        # what is open is left to readers that have it; it closes with the last of them
        self._file = self.path.open("rb", buffering=0) if now else None
        self._head = b""
        self._tail = b""
        self.offset = 0
        self.size = now.st_size if now else 0
        self.version += 1
        return True

    def _goes_on(self, now: os.stat_result) -> bool:
        """Whether the file is the one that is open, and still holds what was handed out."""
        if not os.path.samestat(now, os.fstat(self._file.fileno())) or now.st_size < self.offset:
            return False
        tail = max(0, self.offset - _MARK)
        return self.read(0, len(self._head)) == self._head and self.read(tail, len(self._tail)) == self._tail

    def lines(self) -> Lines | None:
        """The next whole lines, about AT_ONCE bytes of them; None where there are no more for now."""
        wanted = AT_ONCE
        while self._file is not None:
            data = self.read(self.offset, wanted)
            end = data.rfind(b"\n") + 1
            if end:
                return self._handed(Lines(self.offset, data[:end], end))
            if len(data) < wanted:
                return None
            if wanted >= LONGEST_LINE:
                return self._overlong()
            wanted *= 2
        return None

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of the file that stand there, as many as there are."""
        file = self._file
        pieces = []
        while file is not None and size > 0:
            piece = os.pread(file.fileno(), size, offset)
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _overlong(self) -> Lines | None:
        """A line of more than LONGEST_LINE bytes; None where its end is not there yet."""
        at = self.offset + LONGEST_LINE
        while piece := self.read(at, AT_ONCE):
            end = piece.find(b"\n") + 1
            if end:
                return self._handed(Lines(self.offset, b"", at + end - self.offset))
            at += len(piece)
        return None

    def _handed(self, lines: Lines) -> Lines:
        end = lines.offset + lines.size
        if len(self._head) < _MARK:
            self._head = self.read(0, min(_MARK, end))
        start = max(0, end - _MARK)
        self._tail = self.read(start, end - start)
        self.offset = end
        return lines
