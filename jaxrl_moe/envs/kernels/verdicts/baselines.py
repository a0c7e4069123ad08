"""How long references take by themselves, under torch and under torch.compile, measured once for each GPU."""
import dataclasses
import hashlib
import json
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from filelock import FileLock

from jaxrl_moe.envs.kernels.verdicts.trial import Judged
from jaxrl_moe.log_files import whole_file
from jaxrl_moe.outside import Fields, OutsideError, read_object
from jaxrl_moe.spelling import cut, escaped
from jaxrl_moe.types import UserError

FORMAT = 1
LONGEST_REASON = 500


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Medians in milliseconds of a reference.

    Attributes:
      eager_ms, compiled_ms: under torch, and under torch.compile; None: not measured.
      missing: why one of the two was not measured; empty: both were.

    Raises:
      ValueError: a time is not positive, or one is missing and nothing says why.
    """
    eager_ms: float | None
    compiled_ms: float | None
    missing: str = ""

    def __post_init__(self):
        times = (self.eager_ms, self.compiled_ms)
        if any(each is not None and not 0 < each < float("inf") for each in times):
            raise ValueError(f"{self}: a time must be above 0")
        if (None in times) != bool(self.missing):
            raise ValueError(f"{self}: a time is missing just where something says why")


Measure = Callable[[Judged], Baseline]


class Baselines:
    """A table by problem, sizes, GPU and torch's version, in a file that is old or new, never half. Any
    thread may ask it; several processes may have the file.

    Args:
      path: of the JSON file, which is made if it is not there; None: they are kept in memory.
      gpu: its name, as "NVIDIA H100 80GB HBM3".
      torch: its version.

    Raises:
      UserError: the file is none such.
    """

    def __init__(self, path: pathlib.Path | None, gpu: str, torch: str):
        self._path = path
        self._where = [gpu, torch]
        self._door = threading.Lock()
        self._measuring: dict[str, threading.Lock] = {}
        self._table: dict[str, Baseline] = {}
        self._read()

    def get(self, problem: Judged, measure: Measure) -> Baseline:
        """What is known of a problem, or is measured now, once for all who ask meanwhile. What cannot be
        measured is not kept, and is tried again when it is asked for again.

        Args:
          measure: measures it; whatever exception it raises is why there is no baseline.

        Raises:
          UserError: the file cannot be written.
        """
        key = self._key(problem)
        with self._door:
            turn = self._measuring.setdefault(key, threading.Lock())
        with turn:
            known = self._table.get(key)
            if known is not None:
                return known
            measured = _measured(problem, measure)
            if not measured.missing:
                self._keep(key, measured)
            return measured

    def _key(self, problem: Judged) -> str:
        sizes = [dict(sorted(each.items())) for each in problem.sizes]
        return hashlib.sha256(json.dumps([problem.source, sizes, *self._where]).encode()).hexdigest()

    def _keep(self, key: str, baseline: Baseline) -> None:
        with self._door:
            self._table[key] = baseline
            if self._path is None:
                return
            try:
                with FileLock(f"{self._path}.lock"):
                    self._read()  # what others have measured meanwhile
                    self._table[key] = baseline
                    self._write()
            except OSError as error:
                raise UserError(f"Baselines cannot be kept in {str(self._path)!r}: "
                                f"{error.strerror or error}. Give the path of a file that can be "
                                "written.") from error

    def _read(self) -> None:
        if self._path is None or not self._path.exists():
            return
        fields = Fields(read_object(self._path), str(self._path))
        if fields.integer("format") != FORMAT:
            raise OutsideError(f"{self._path} is of another version (format {fields.values['format']}): move "
                               "it away, and baselines are measured anew.")
        told = fields.object("baselines")
        for key in told.values:
            row = told.object(key)
            self._table[key] = Baseline(row.number("eager_ms", above=0.0),
                                        row.number("compiled_ms", above=0.0))

    def _write(self) -> None:
        rows: Mapping[str, Any] = {key: {"eager_ms": each.eager_ms, "compiled_ms": each.compiled_ms}
                                   for key, each in sorted(self._table.items())}
        with whole_file(self._path) as path:
            path.write_text(json.dumps({"format": FORMAT, "baselines": rows}, indent=1) + "\n")


def _measured(problem: Judged, measure: Measure) -> Baseline:
    try:
        return measure(problem)
    except Exception as error:  # told to whoever asked, with the verdict
        why = cut(escaped(f"{type(error).__name__}: {error}"), LONGEST_REASON)
        return Baseline(None, None, f"the reference could not be timed: {why}")
