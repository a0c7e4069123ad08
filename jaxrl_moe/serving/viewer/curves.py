"""The metrics of a phase, as its metrics.jsonl grows."""
import pathlib
import threading
from collections.abc import Iterable

from jaxrl_moe.outside import MOST_INT, Fields, OutsideError, parse
from jaxrl_moe.serving.viewer.follow import GrowingLog

Curve = tuple[list[int], list[float]]


class Curves:
    """Reads a metrics file, which may not be there yet, as it grows.

    One thread calls advance(); any may ask for curves.

    Attributes:
      log: the file.
      broken: what is wrong with each line that is no row of metrics.
    """

    def __init__(self, path: pathlib.Path):
        self.log = GrowingLog(path)
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.broken: list[str] = []
        self._lines = 0
        self._curves: dict[str, Curve] = {}

    def advance(self) -> bool:
        """Reads some megabytes more; whether there were any."""
        with self._lock:
            lines = self.log.more(self._clear)
            for line in lines.data.split(b"\n")[:-1] if lines else ():
                self._add(line)
            return lines is not None

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._curves)

    def take(self, names: Iterable[str]) -> dict[str, Curve]:
        """{name: (steps, values)} of those names that there are."""
        with self._lock:
            return {name: (steps.copy(), values.copy())
                    for name in names if name in self._curves
                    for steps, values in [self._curves[name]]}

    def _add(self, line: bytes) -> None:
        self._lines += 1
        try:
            fields = Fields(parse(line, "it", non_finite=True), "it")
            step = fields.integer("step", most=MOST_INT)
        except OutsideError as error:
            self.broken.append(f"Line {self._lines} of {self.log.path.name} is broken: {error}")
            return
        for name, value in fields.values.items():
            if name != "step" and type(value) in (int, float):
                steps, values = self._curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
