"""The runs that are shown, and the thread that reads what they gain."""
import pathlib
import threading
from collections.abc import Sequence
from typing import Any

from jaxrl_moe.serving.viewer.curves import Curves
from jaxrl_moe.serving.viewer.folders import METRICS, PHASES, TRAJECTORIES
from jaxrl_moe.serving.viewer.index import TrajectoryIndex
from jaxrl_moe.serving.viewer.texts import TokenTexts

_EVERY = 0.5  # seconds between two looks at files that gained nothing
_NAMES = {"": "RL", "sft": "SFT", "evaluation": "Evaluation"}


class ShownPhase:
    """What is read of one phase's folder, which may come into being later."""

    def __init__(self, run: pathlib.Path, phase: str):
        folder = run / phase
        self.name = _NAMES[phase]
        self.index = TrajectoryIndex(folder / TRAJECTORIES)
        self.curves = Curves(folder / METRICS)
        self.texts = TokenTexts(folder)

    def state(self) -> dict[str, Any]:
        """How far its files are read; what else was asked for is to be asked for again where it differs."""
        index = self.index.snapshot()
        return {"name": self.name, "version": index.version, "rows": index.rows,
                "bytes": self.index.log.offset, "size": self.index.log.size,
                "outcomes": list(index.outcomes.words),
                "metrics": [self.curves.log.version, self.curves.log.offset],
                "errors": [error for error in (self.index.log.error, self.curves.log.error) if error] +
                self.curves.broken[:3]}


class ShownRuns:
    """As a context manager it reads the files of its runs, and what they gain, in a thread.

    Args:
      folders: of one run or two.
    """

    def __init__(self, folders: Sequence[pathlib.Path]):
        self.folders = tuple(folders)
        self.phases = [[ShownPhase(folder, phase) for phase in PHASES] for folder in folders]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name="viewer", daemon=True)

    def __enter__(self) -> "ShownRuns":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def state(self) -> list[dict[str, Any]]:
        return [{"name": folder.resolve().name, "path": str(folder),
                 "phases": [phase.state() for phase in phases]}
                for folder, phases in zip(self.folders, self.phases)]

    def advance(self) -> bool:
        """Reads some megabytes more of each file; whether there were any."""
        files = [file for phases in self.phases for phase in phases for file in (phase.curves, phase.index)]
        gained = [file.advance() for file in files]
        return any(gained)

    def _read(self) -> None:
        while not self._ended.is_set():
            if not self.advance():
                self._ended.wait(_EVERY)
