"""What was played by now, in a file beside the one that is made, so that a start that was killed is gone on
with."""
import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, Any, Self

from jaxrl_moe import outside
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.types import UserError

SUFFIX = ".partial"


class Work:
    """The rows that were played, in order, whatever came of them.

    Attributes:
      rows: as play.Played gives them.
    """

    def __init__(self, path: pathlib.Path, file: IO[bytes], rows: list[Mapping[str, Any]]):
        self.rows = rows
        self._path = path
        self._file = file

    @classmethod
    @contextlib.contextmanager
    def open(cls, out: pathlib.Path, settings: Mapping[str, Any]) -> Iterator[Self]:
        """Goes on with the work on a file, or begins it.

        Args:
          out: the file that is made in the end.
          settings: what decides which rows come of it.

        Raises:
          UserError: another process is at it, what is there is of other settings or damaged, or it cannot be
            written.
        """
        path = out.with_name(out.name + SUFFIX)
        try:
            file = path.open("ab+")
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error}.") from error
        with file:
            _lock(file, path)
            yield cls(path, file, _taken_up(file, path, settings))

    def add(self, row: Mapping[str, Any]) -> None:
        """Keeps what came of the next row."""
        self.rows.append(row)
        _write(self._file, self._path, row)

    def finish(self) -> None:
        """The file that was made is there: this one is not needed any more."""
        self._path.unlink()


def _lock(file: IO[bytes], path: pathlib.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"Another process is writing {path}: wait for it, or give another --out.") from error


def _taken_up(file: IO[bytes], path: pathlib.Path, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that a file holds. A line that a kill left unfinished is cut off; a file without any line is
    begun."""
    file.seek(0)
    lines = file.read().splitlines(keepends=True)
    whole = [line for line in lines if line.endswith(b"\n")]
    if len(whole) < len(lines):
        file.truncate(sum(map(len, whole)))
    if not whole:
        _write(file, path, settings)
        return []
    found, *rows = [_read(line, path, number) for number, line in enumerate(whole, 1)]
    if found != dict(settings):
        raise UserError(f"{path} was begun with {_shown(found, settings)}, and now it is "
                        f"{_shown(settings, found)}: give the same again to go on, another --out, or remove "
                        "that file.")
    return rows


def _read(line: bytes, path: pathlib.Path, number: int) -> dict[str, Any]:
    try:
        return outside.as_object(outside.parse(line, "it"), "it")
    except OutsideError as error:
        raise UserError(f"{path}, line {number} is damaged: {error} Remove that file to begin "
                        "anew.") from error


def _shown(settings: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Those that differ."""
    differing = {key: value for key, value in settings.items() if others.get(key) != value}
    return ", ".join(f"{key}={value!r}" for key, value in differing.items()) or "fewer settings"


def _write(file: IO[bytes], path: pathlib.Path, row: Mapping[str, Any]) -> None:
    try:
        file.write(json.dumps(row).encode() + b"\n")
        file.flush()
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Free some space and give the same command again "
                        "to go on.") from error
