"""Logs of one JSON object a line, each with its step. A resumed run cuts them back to where it goes on; what
lies beyond is set aside, never deleted."""
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, TextIO

from jaxrl_moe import outside, partials
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.types import UserError

SERVED = "served.jsonl"        # in a run's folder: the calls that its endpoint served
UNSAVED = ".unsaved_to_step_"  # before a step: what is set aside until there is a checkpoint of that step
TEMPORARY = ".tmp"             # ends the name of a file that is being written


class Tally:
    """How many rows a log has, and of which steps."""

    def __init__(self, rows: int = 0, steps: Iterable[int] = ()):
        self.rows = rows
        self.steps = set(steps)

    def add(self, step: int) -> None:
        self.rows += 1
        self.steps.add(step)

    def to_json(self) -> dict[str, Any]:
        """{"rows": 7, "steps": [[0, 6]]}, steps as ranges with both ends."""
        return {"rows": self.rows, "steps": ranges(self.steps)}


def ranges(steps: Iterable[int]) -> list[list[int]]:
    """Integers as ascending ranges, both ends included."""
    found: list[list[int]] = []
    for step in sorted(steps):
        if found and step == found[-1][1] + 1:
            found[-1][1] = step
        else:
            found.append([step, step])
    return found


def shown(steps: Iterable[int]) -> str:
    """Steps in a message, such as "steps 3 to 6, 9"; there is at least one."""
    spans = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges(steps)]
    more = f" and {len(spans) - 5} more ranges" if len(spans) > 5 else ""
    several = len(spans) > 1 or any(" " in span for span in spans)
    return f"step{'s' * several} {', '.join(spans[:5])}{more}"


@dataclasses.dataclass
class Cut:
    """What a cut left in a log, and where the rest lies (None: there was none); `damaged`: which rows that
    are is not known."""
    kept: Tally = dataclasses.field(default_factory=Tally)
    dropped: Tally = dataclasses.field(default_factory=Tally)
    aside: pathlib.Path | None = None
    damaged: bool = False


def open_to_append(path: pathlib.Path):
    """A text file to append to; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a", encoding="utf-8")


def write_line(file: TextIO, row: Mapping) -> None:
    """Appends the row as JSON and hands it to the operating system.

    Raises:
      UserError: the file cannot be written, as on a full disk.
    """
    try:
        file.write(json.dumps(row) + "\n")
        file.flush()
    except OSError as error:
        raise UserError(f"{file.name} cannot be written: {error}. Free some space and start again; the run "
                        "goes on from its newest checkpoint.") from error


def cut_lines(path: pathlib.Path, last_step: int, due: int = -1) -> Cut:
    """Sets the rows of a JSONL file beyond last_step aside (the whole file for -1), with a last line that a
    kill left unfinished.

    Args:
      due: see aside_name.

    Raises:
      UserError: a line to look at is damaged.
    """
    if not path.exists():
        return Cut()
    if last_step < 0:
        return _cut_all(path, due)
    cut = Cut()
    whole = 0
    for line, row in read_lines(path):
        whole += len(line)
        (cut.kept if row["step"] <= last_step else cut.dropped).add(row["step"])
    if cut.dropped.rows or whole < path.stat().st_size:
        cut.aside = aside_name(path, last_step, cut, due)
        _split(path, cut.aside, lambda row: row["step"] <= last_step, whole)
    return cut


def _cut_all(path: pathlib.Path, due: int) -> Cut:
    cut = Cut()
    try:
        for _, row in read_lines(path):
            cut.dropped.add(row["step"])
    except UserError:
        cut.damaged = True
    cut.aside = set_aside(path, cut, due)
    return cut


def _split(path: pathlib.Path, aside: pathlib.Path, keep: Callable[[Mapping], bool], whole: int) -> None:
    """Leaves the rows to keep in the file, and puts the others, and what comes after `whole` bytes, into
    another."""
    with replacing(path) as kept:
        with replacing(aside) as others:  # has its name before the log is cut
            for line, row in read_lines(path):
                (kept if keep(row) else others).write(line)
            with path.open("rb") as source:
                source.seek(whole)
                others.write(source.read())


def set_aside(path: pathlib.Path, cut: Cut | None = None, due: int = -1) -> pathlib.Path | None:
    """Renames a log that no checkpoint knows, a file or a folder; an empty file stays. The new name."""
    if not path.exists() or path.is_file() and not path.stat().st_size:
        return None
    aside = aside_name(path, -1, cut or Cut(), due)
    path.rename(aside)
    return aside


def aside_name(path: pathlib.Path, last_step: int, cut: Cut, due: int = -1) -> pathlib.Path:
    """A free name for what is set aside of a log, or the one of UNSAVED.

    Args:
      cut: what that is.
      due: step of the checkpoint that comes after last_step. Rows up to there are of a start that ended
        before it could save them, and are logged again. Rows beyond had a checkpoint that is there no more.
    """
    last = max(cut.dropped.steps, default=last_step)
    if last_step < due and last <= due and not cut.damaged:
        unsaved = path.with_name(f"{path.name}{UNSAVED}{max(last, 0)}")
        partials.remove(unsaved)  # the same rows, of another start that ended there
        return unsaved
    suffix = f".after_step_{last_step}" if last_step >= 0 else ".earlier"
    return free_name(path.with_name(path.name + suffix))


def free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of path_2, path_3, ... that nothing has."""
    number = 1
    name = path
    while name.exists():
        number += 1
        name = path.with_name(f"{path.name}_{number}")
    return name


def read_lines(path: pathlib.Path) -> Iterator[tuple[bytes, dict]]:
    """Every whole line of a log with the row that it holds; a last line without an end is left out.

    Raises:
      UserError: a line is no JSON object with a step.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = outside.parse(line, "it", non_finite=True)
                if type(row["step"]) is not int or not 0 <= row["step"] <= outside.MOST_INT:
                    raise TypeError("its step is no whole number, or is out of range")
            except (OutsideError, KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number} is damaged: it holds no JSON object with a step "
                                f"({error}). Delete that line, or move the file away, and start again; "
                                "nothing but this log depends on it.") from error
            yield line, row


@contextlib.contextmanager
def whole_file(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A name to write a file under that gets its own when the block ends well, so that it is old or new,
    never half."""
    other = path.with_name(path.name + TEMPORARY)
    yield other
    os.replace(other, path)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file to write anew, as whole_file, open for bytes."""
    with whole_file(path) as other, other.open("wb") as file:
        yield file


def replace(path: pathlib.Path, data: bytes) -> None:
    """Writes the file anew, whole or not at all."""
    with replacing(path) as file:
        file.write(data)


def tidy(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Removes what a kill left of files of these names (or patterns) that were being written."""
    for name in names:
        for path in folder.glob(name + TEMPORARY):
            path.unlink()


@contextlib.contextmanager
def only_process(path: pathlib.Path) -> Iterator[None]:
    """Waits until no other process, of this machine or another, is in a block over the same lock file; the
    file is there only meanwhile. A process that dies gives the lock up."""
    with contextlib.ExitStack() as held:
        while True:
            file = held.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
            # who held it before has removed it: another may have made, and locked, a new one
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        try:
            yield
        finally:
            path.unlink()
