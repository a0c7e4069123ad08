"""Where the rows of trajectories.jsonl stand, and what they are chosen by: some 50 bytes a row in memory,
whatever its length. The rows themselves are read from the file, one by one, when they are looked at."""
import dataclasses
import math
import pathlib
import threading
from collections.abc import Mapping

import numpy as np

from jaxrl_moe.serving.viewer.entries import BROKEN, IndexEntry, read_entry
from jaxrl_moe.serving.viewer.follow import GrowingLog, Lines
from jaxrl_moe.serving.viewer.scan import NoObject, bared
from jaxrl_moe.types import UserError

_COLUMNS = {"offset": np.int64, "size": np.int64, "step": np.int32, "phase": np.uint16, "sequence": np.int64,
            "sample": np.int32, "prompt_index": np.int32, "reward": np.float64, "advantage": np.float32,
            "outcome": np.uint16, "tokens": np.int32}
_MOST_NAMES = np.iinfo(np.uint16).max
_ROOM = 1024  # rows that there is room for at first


class ChangedError(UserError):
    """The file is no longer the one that was indexed; who asked asks again."""


class Names:
    """The words of a column that has few different ones, each with a number."""

    def __init__(self):
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, word: str) -> int:
        """Raises NoObject where there are too many to number."""
        if word not in self._numbers:
            if len(self.words) >= _MOST_NAMES:
                raise NoObject(f"comes after {_MOST_NAMES} others that each have another phase or outcome")
            self._numbers[word] = len(self.words)
            self.words.append(word)
        return self._numbers[word]

    def find(self, word: str) -> int:
        """-1 where it does not stand in the column."""
        return self._numbers.get(word, -1)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The rows that were indexed at a moment; columns are [rows], see IndexEntry. In those of phase and
    outcome stand numbers of these words."""
    version: int
    columns: Mapping[str, np.ndarray]
    phases: Names
    outcomes: Names

    @property
    def rows(self) -> int:
        return len(self.columns["step"])


class TrajectoryIndex:
    """Indexes a file, which may not be there yet, as it grows.

    One thread calls advance(); any may take snapshots and read rows.

    Attributes:
      log: the file.
    """

    def __init__(self, path: pathlib.Path):
        self.log = GrowingLog(path)
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._columns = {name: np.empty(_ROOM, kind) for name, kind in _COLUMNS.items()}
        self._names = {"phase": Names(), "outcome": Names()}
        self._rows = 0

    def advance(self) -> bool:
        """Indexes some megabytes more; whether there were any."""
        with self._lock:
            lines = self.log.more(self._clear)
        if lines is None:
            return False
        self._add(lines)
        return True

    def snapshot(self) -> Snapshot:
        with self._lock:
            columns = {name: column[:self._rows] for name, column in self._columns.items()}
            return Snapshot(self.log.version, columns, self._names["phase"], self._names["outcome"])

    def read(self, row: int, version: int) -> bytes:
        """The bytes of a row, without its line's end.

        Raises:
          ChangedError: the file is another one by now.
          IndexError: there is no such row.
        """
        with self._lock:
            if version != self.log.version:
                raise ChangedError(f"{self.log.path} has been cut back or replaced since.")
            if not 0 <= row < self._rows:
                raise IndexError(row)
            offset, size = (int(self._columns[name][row]) for name in ("offset", "size"))
            data = self.log.read(offset, size + 1)
        if len(data) != size + 1 or data[-1:] != b"\n":
            raise ChangedError(f"{self.log.path} has been cut back since.")
        return data[:-1]

    def reason(self, data: bytes) -> str:
        """Why a row is broken, as it goes on from the row's name; empty: it is not, as far as the index
        looks."""
        try:
            read_entry(data, bared(data), 0, len(data))
        except NoObject as error:
            return str(error)
        return ""

    def _add(self, lines: Lines) -> None:
        data = lines.data
        bare = bared(data)
        start = 0
        while start < len(data):
            end = data.index(b"\n", start)
            self._append(lines.offset + start, end - start, self._entry(data, bare, start, end))
            start = end + 1
        if not data:
            self._append(lines.offset, lines.size - 1, self._broken())

    def _entry(self, data: bytes, bare: bytes, start: int, end: int) -> IndexEntry:
        try:
            entry = read_entry(data, bare, start, end)
            self._names["phase"].number(entry.phase)
            self._names["outcome"].number(entry.outcome)
        except NoObject:
            return self._broken()
        return entry

    def _broken(self) -> IndexEntry:
        """Stands among the rows before it."""
        step, phase = (int(self._columns[name][self._rows - 1]) if self._rows else -1
                       for name in ("step", "phase"))
        word = self._names["phase"].words[phase] if phase >= 0 else "train"
        return IndexEntry(max(step, 0), word, -1, 0, -1, math.nan, math.nan, BROKEN, 0)

    def _append(self, offset: int, size: int, entry: IndexEntry) -> None:
        if self._rows == len(self._columns["step"]):
            grown = {name: np.concatenate([column, np.empty_like(column)])
                     for name, column in self._columns.items()}
            self._columns = grown
        at = self._rows
        columns = self._columns
        columns["offset"][at] = offset
        columns["size"][at] = size
        for name, value in zip(IndexEntry._fields, entry):
            columns[name][at] = self._names[name].number(value) if name in self._names else value
        self._rows = at + 1
