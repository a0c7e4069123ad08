"""Time-outs of environments, recorded so that a run which is killed and resumed sees the same ones again."""
import pathlib

from jaxrl_moe import log_files
from jaxrl_moe.outside import Fields, parse

NAME = "timeouts.jsonl"
FIELDS = ("stream", "sequence", "sample", "attempt", "turn")
Moment = tuple[int, int, int, int, int]  # the values of FIELDS


class Timeouts:
    """Those of a run that fired, one JSON object a line.

    Args:
      path: read if it is there, and appended to.
    """

    def __init__(self, path: pathlib.Path):
        self._path = path
        self._known = set(_read(path))

    def known(self, moment: Moment) -> bool:
        return moment in self._known

    def note(self, moment: Moment) -> None:
        """One fired; written at once."""
        if moment in self._known:
            return
        self._known.add(moment)
        with log_files.open_to_append(self._path) as file:
            log_files.write_line(file, dict(zip(FIELDS, moment)))


def _read(path: pathlib.Path) -> list[Moment]:
    if not path.exists():
        return []
    moments = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):  # what a kill left of a last line did not count yet
        fields = Fields(parse(line, f"{path}, line {number}"), f"{path}, line {number}")
        moments.append(tuple(fields.integer(name, least=0) for name in FIELDS))
    return moments
