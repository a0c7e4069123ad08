"""Answers to what the page asks for, of one phase of a run."""
import json
import math
from collections.abc import Iterable
from typing import Any

from jaxrl_moe.outside import OutsideError
from jaxrl_moe.serving.viewer import choosing
from jaxrl_moe.serving.viewer.entries import BROKEN
from jaxrl_moe.serving.viewer.episodes import episode
from jaxrl_moe.serving.viewer.index import Snapshot
from jaxrl_moe.serving.viewer.questions import (
    CurvesWanted,
    GroupsWanted,
    RowWanted,
    SearchWanted,
    StepsWanted,
)
from jaxrl_moe.serving.viewer.scan import NoObject, bared, spans
from jaxrl_moe.serving.viewer.shown import ShownPhase

GROUPS_AT_ONCE = 100
_SHOWN_OF_BROKEN = 4000   # bytes
_SEARCHED = ("prompt", "completion", "messages", "message")


def steps(phase: ShownPhase, wanted: StepsWanted) -> dict[str, Any]:
    """{"version", "steps": see choosing.steps}."""
    index = phase.index.snapshot()
    return {"version": index.version, "steps": choosing.steps(index, wanted.filter())}


def groups(phase: ShownPhase, wanted: GroupsWanted) -> dict[str, Any]:
    """{"version", "total": groups of the step, "groups": some of them}, each with what tells its prompt from
    theirs."""
    index = phase.index.snapshot()
    rows = choosing.rows_of(index, wanted.step, wanted.phase, wanted.prompt_index)
    found = choosing.groups(index, rows, wanted.filter())
    some = found[wanted.start:wanted.start + GROUPS_AT_ONCE]
    prompts = [_text(phase, index, group["rows"][0], "prompt") for group in some]
    excerpts = choosing.differing(prompts)
    shown = [group | {"prompt": excerpt} for group, excerpt in zip(some, excerpts)]
    return {"version": index.version, "total": len(found), "groups": _finite(shown)}


def search(phase: ShownPhase, wanted: SearchWanted) -> dict[str, Any]:
    """{"version", "rows": those of the step that hold the text}."""
    index = phase.index.snapshot()
    text = wanted.text.casefold()
    rows = choosing.rows_of(index, wanted.step, wanted.phase).tolist()
    found = [row for row in rows if any(text in said.casefold() for said in _texts(phase, index, row))]
    return {"version": index.version, "rows": found}


def row(phase: ShownPhase, wanted: RowWanted) -> dict[str, Any]:
    """The episode, with its place; of a broken row why it is, and how it begins."""
    data = phase.index.read(wanted.row, wanted.version)
    place = _place(phase.index.snapshot(), wanted.row)
    try:
        reason = phase.index.reason(data)
        if not reason:
            return place | episode(data, phase.texts)
    except OutsideError as error:
        reason = str(error).removeprefix("The row ").removeprefix("The row: ")
    return place | {"outcome": BROKEN, "reason": reason,
                    "begins": data[:_SHOWN_OF_BROKEN].decode("utf-8", "replace")}


def curves(phase: ShownPhase, wanted: CurvesWanted) -> dict[str, Any]:
    """{"names": all that there are, "curves": {name: [steps, values]} of those asked for}."""
    return {"names": phase.curves.names(), "curves": _finite(phase.curves.take(wanted.name))}


def _place(index: Snapshot, at: int) -> dict[str, Any]:
    columns = index.columns
    numbers = {name: int(columns[name][at])
               for name in ("offset", "size", "step", "sequence", "sample", "prompt_index")}
    return numbers | {"row": at, "phase": index.phases.words[columns["phase"][at]],
                      "outcome": index.outcomes.words[columns["outcome"][at]]}


def _text(phase: ShownPhase, index: Snapshot, at: int, key: str) -> str:
    """A row's text; empty where it has none that can be read."""
    return next(iter(_read_texts(phase, index, at, (key,))), "")


def _texts(phase: ShownPhase, index: Snapshot, at: int) -> list[str]:
    return _read_texts(phase, index, at, _SEARCHED)


def _read_texts(phase: ShownPhase, index: Snapshot, at: int, keys: Iterable[str]) -> list[str]:
    data = phase.index.read(at, index.version)
    try:
        found = spans(data, bared(data), 0, len(data))
        values = [json.loads(data[slice(*found[key])]) for key in keys if key in found]
    except (NoObject, ValueError):  # a broken row, which says so once it is opened
        return []
    return [text for value in values for text in _strings(value)]


def _strings(value: Any) -> list[str]:
    """The strings in a value, those of "role" excepted."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [item for key, item in value.items() if key != "role"]
    return [text for item in value for text in _strings(item)] if isinstance(value, list) else []


def _finite(value: Any) -> Any:
    """Strict JSON: null in place of NaN and infinities."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
