"""Logs of one JSON object a line, each with its step, that a resumed run cuts back to where it goes on."""
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TextIO

from jaxrl_moe.types import UserError

SERVED = "served.jsonl"  # in a run's folder: the calls that its endpoint served


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


def cut_lines(path: pathlib.Path, last_step: int) -> None:
    """Drops the rows of a JSONL file beyond last_step (all of them for -1), and a last line that a kill left
    unfinished.

    Raises:
      UserError: a line to look at is damaged.
    """
    if path.exists():
        kept = [line for line, row in read_lines(path) if row["step"] <= last_step] if last_step >= 0 else []
        replace(path, b"".join(kept))


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
                row = json.loads(line)
                if not isinstance(row["step"], int):
                    raise TypeError("its step is no whole number")
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{path}, line {number} is damaged: it holds no JSON object with a step "
                                f"({error}). Delete that line, or move the file away, and start again; "
                                "nothing but this log depends on it.") from error
            yield line, row


def replace(path: pathlib.Path, data: bytes) -> None:
    """Writes the file anew under another name and renames it, so that it is old or new, never half."""
    other = path.with_name(path.name + ".tmp")
    other.write_bytes(data)
    os.replace(other, path)
