"""What a stage of the GPU check finds: one row a line of a JSON file, on the disk as soon as it is known.

Only Python's own modules are imported here and in what else the watching process reads: a package that is
missing must end as a failed row, not as a missing table, and JAX in that process would hold the card's
memory.
"""
import dataclasses
import json
import os
import pathlib
import signal
import time
from collections.abc import Callable
from typing import Any

PASSED = "passed"
MEASURED = "measured"
FAILED = "failed"
ABSENT = "not on this machine"
# such as c:hang: after its first row stage c raises | hangs | kills itself; for tests
SIMULATED = "JAXRL_MOE_FAIL_STAGE"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of one check.

    Attributes:
      card: "h100" or "h200": how much fits.
      rehearse: tiny shapes on a CPU, to see that the check itself works.
      folder: for what is made on the way, compiled programs and runs.
      rows: the stage's file of rows.
      letter: the stage's.
      seconds: that the stage has.
    """
    card: str = "h200"
    rehearse: bool = False
    folder: str = ""
    rows: str = ""
    letter: str = ""
    seconds: float = 60.0


class Recorder:
    """Appends the rows of a stage to its file."""

    def __init__(self, settings: Settings):
        self.path = pathlib.Path(settings.rows)
        letter, _, self._failure = os.environ.get(SIMULATED, "").partition(":")
        self._fails = letter == settings.letter

    def add(self, name: str, status: str, note: str = "", **values: Any) -> None:
        """One row; `values` are its figures, by their names and units."""
        row = {"name": name, "status": status, "values": values, "note": note}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._fails:
            _fail(self._failure)

    def attempt(self, name: str, function: Callable[[], Any], absent: bool = False) -> Any:
        """function(); where it raises a row that says so, and None. absent: this machine has not what it
        needs, by no one's fault."""
        try:
            return function()
        except Exception as error:
            self.add(name, ABSENT if absent else FAILED, message(error))
            return None


def message(error: BaseException) -> str:
    """An error in one line of bounded length, and the error that it was raised from."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
    return text if error.__cause__ is None else f"{text}, from {message(error.__cause__)}"


def read(path: pathlib.Path) -> list[dict]:
    """The rows of a file; what a killed process left half written is dropped, and there is none where it
    never began."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _fail(how: str) -> None:
    if how == "raise":
        raise RuntimeError("this failure is simulated")
    if how == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    os.kill(os.getpid(), signal.SIGKILL)
