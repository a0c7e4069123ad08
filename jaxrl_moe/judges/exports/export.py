"""Writes what people said into files of other programs; a file is there whole or not at all."""
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from jaxrl_moe import partials
from jaxrl_moe.judges.exports import argilla, label_studio
from jaxrl_moe.judges.exports.lines import lines, preference_lines
from jaxrl_moe.judges.exports.records import Card, cards, chosen
from jaxrl_moe.judges.queue.queue import QueueError
from jaxrl_moe.judges.queue.sql import SqlQueue
from jaxrl_moe.judges.records import Ask
from jaxrl_moe.log_files import whole_file
from jaxrl_moe.spelling import did_you_mean, quoted

FORMATS = {"jsonl": "all of it, an object a line", "preferences": "JSON lines of prompt, chosen, rejected",
           "argilla": "a folder for rg.Dataset.from_disk",
           "label-studio": "a JSON file of tasks, and beside it FILE.xml, the labeling configuration"}


def export(queue: SqlQueue, form: str, out: str | os.PathLike, *, ask: str = "", margin: float = 0.0,
           users: Mapping[str, str] | None = None) -> int:
    """Writes an export; returns how many records it has. Files are replaced, a folder must be new.

    Args:
      form: a row of FORMATS.
      ask: of "argilla" and "label-studio", what the id of the rubric and mode begins with, where the queue
        has several.
      margin: of "preferences", what the better work must be better by.
      users: of "argilla", judge -> the UUID of their account there.

    Raises:
      UserError: there is no such format, nothing to export, or it cannot be written.
    """
    if form not in FORMATS:
        raise QueueError(f"There is no export called {quoted(form)}.{did_you_mean(form, FORMATS)} Give one "
                         f"of {', '.join(FORMATS)}.")
    path = pathlib.Path(out)
    if not path.parent.is_dir():
        raise QueueError(f"The folder {path.parent} does not exist: make it first.")
    if form == "jsonl":
        return _write_lines(path, queue.store.read(lambda connection: list(lines(connection))))
    if form == "preferences":
        return _write_lines(path, queue.store.read(
            lambda connection: list(preference_lines(connection, margin))))

    def read(connection: Any) -> tuple[Ask, list[Card]]:
        name, asked = chosen(connection, ask)
        return asked, list(cards(connection, name))
    asked, shown = queue.store.read(read)
    if form == "argilla":
        _write_argilla(path, asked, shown, users or {})
    else:
        _write(path.with_name(path.name + ".xml"), label_studio.configuration(asked, shown))
        _write(path, json.dumps(list(label_studio.tasks(asked, shown))))
    return len(shown)


def _write_lines(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> int:
    texts = [json.dumps(row) + "\n" for row in rows]
    _write(path, "".join(texts))
    return len(texts)


def _write(path: pathlib.Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_argilla(path: pathlib.Path, ask: Ask, shown: list[Card], users: Mapping[str, str]) -> None:
    if path.exists():
        raise QueueError(f"{path} exists: an export for Argilla is a new folder.")
    partials.tidy(path.parent)
    with partials.claimed(path, pathlib.Path.mkdir) as partial:
        argilla.write_folder(partial, path.name, ask, shown, users)
        partial.rename(path)
