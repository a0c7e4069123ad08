"""The logs of a phase: what a checkpoint knows of them, and what a resumed run does with the rest."""
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from jaxrl_moe import log_files, partials
from jaxrl_moe.log_files import Cut, Tally
from jaxrl_moe.outside import Fields, OutsideError
from jaxrl_moe.runs import writers

METRICS = "metrics.jsonl"
TRAJECTORIES = "trajectories.jsonl"
LOADS = "moe_load.jsonl"
EVENTS = "tensorboard"
SETTINGS = "config.json"
KNOWN = (METRICS, TRAJECTORIES, LOADS, EVENTS)  # a checkpoint knows how many rows these have
# what is written anew and renamed, so that a kill may leave its temporary name
_REPLACED = ("*.jsonl", "*.jsonl.*", SETTINGS, "*.png", "*.npz", "wandb_id", f"{EVENTS}*/*tfevents*")


class Logs:
    """Counts the rows of a phase's logs, so that each checkpoint can say what they held.

    Attributes:
      tallies: by the names of KNOWN.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.tallies = {name: Tally() for name in KNOWN}

    def to_json(self) -> dict[str, Any]:
        return {name: tally.to_json() for name, tally in self.tallies.items() if tally.rows}

    def cut_back(self, step: int, known: Mapping[str, Any], due: int = -1) -> Iterator[str]:
        """Goes back to the checkpoint of a step (-1: there is none): sets aside what was logged after it, and
        yields what of that, and of rows that are missing, is to be told.

        Args:
          step: the checkpoint's.
          known: what it says of the logs.
          due: step of the checkpoint that comes next; see log_files.aside_name, and `saved`.
        """
        log_files.tidy(self.folder, _REPLACED)
        for name in (*KNOWN, log_files.SERVED):
            path = self.folder / name
            redone = due if name in KNOWN else -1  # calls that were served are not made again
            cut = (writers.cut_events if name == EVENTS else log_files.cut_lines)(path, step, redone)
            if name in self.tallies:
                self.tallies[name].rows = cut.kept.rows
                self.tallies[name].steps = cut.kept.steps
            if cut.aside:
                yield _told_aside(name, cut, step)
            if name in known:
                yield from _told_missing(path, cut.kept, Fields(known, "logs of the checkpoint").object(name))

    def saved(self, step: int) -> None:
        """To be called when there is a checkpoint of a step: what was set aside of starts that ended before
        they could save it has been logged anew, and goes."""
        for name in KNOWN:
            for path in self.folder.glob(f"{name}{log_files.UNSAVED}*"):
                last = path.name.removeprefix(name + log_files.UNSAVED)
                if last.isdecimal() and int(last) <= step:
                    partials.remove(path)

    def exist(self) -> list[str]:
        """Names of those that hold something."""
        return [name for name in KNOWN if _holds(self.folder / name)]


def _holds(path: pathlib.Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists() and path.stat().st_size > 0


def _told_aside(name: str, cut: Cut, step: int) -> str:
    if step < 0:
        return f"There is no checkpoint to go on from: {name} of the earlier start is now {cut.aside.name}."
    rows = f"{cut.dropped.rows} rows ({log_files.shown(cut.dropped.steps)})" if cut.dropped.rows else (
        "a last row that is not whole")
    return f"{name} goes on after step {step}: {rows} of the earlier start now stand in {cut.aside.name}."


def _told_missing(path: pathlib.Path, kept: Tally, known: Fields) -> Iterator[str]:
    rows = known.integer("rows")
    steps = {step for first, last in _ranges(known) for step in range(first, last + 1)}
    if kept.rows >= rows and steps <= kept.steps:
        return
    missing = steps - kept.steps
    lacking = f"; what it says of {log_files.shown(missing)} is missing" if missing else ""
    what = f"has {kept.rows} of the {rows} rows that it had at the checkpoint" if path.exists() else "is gone"
    yield (f"Warning: {path} {what}{lacking}. The run goes on without them; if there is a copy, stop it, and "
           "put that back.")


def _ranges(known: Fields) -> list[tuple[int, int]]:
    values = known.values.get("steps")
    pairs = isinstance(values, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in values)
    if not pairs or not all(type(number) is int for pair in values for number in pair):
        raise OutsideError(f"{known.where}: steps is no list of pairs of integers.")
    return [(first, last) for first, last in values]
