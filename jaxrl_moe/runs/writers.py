"""Where metrics go: the console, a JSONL file, TensorBoard, and Weights & Biases if asked for.

A resumed run cuts its files back to the checkpoint's step, so that no step stands in them twice.
"""
import pathlib
import struct
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from jaxrl_moe.config import Config
from jaxrl_moe.log_files import open_to_append, replace, write_line
from jaxrl_moe.types import UserError

Row = Mapping[str, float]


class Writer(Protocol):
    def write(self, step: int, metrics: Row) -> None:
        """Records the metrics of one step; what it wrote outlives a kill of the process."""

    def close(self) -> None:
        """Finishes the record."""


class JsonLines:
    """One JSON object a step: {"step": 3, "reward/mean": 0.25, ...}."""

    def __init__(self, path: pathlib.Path):
        self._file = open_to_append(path)

    def write(self, step: int, metrics: Row) -> None:
        write_line(self._file, {"step": step, **metrics})

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files of scalars."""

    def __init__(self, folder: pathlib.Path):
        import tensorboardX
        # names are by the second otherwise, and a quick restart would overwrite
        suffix = f".{time.time_ns()}"
        self._writer = tensorboardX.SummaryWriter(str(folder), flush_secs=3600, filename_suffix=suffix)

    def write(self, step: int, metrics: Row) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A phase as a run of Weights & Biases; resumed, it goes on under its old id, kept in the phase's folder.

    SFT and RL both count their steps from 0, so each has a run of its own; the name of run_dir groups them.
    """

    def __init__(self, config: Config, folder: pathlib.Path, phase: str, settings: Mapping):
        try:
            import wandb
        except ImportError as error:
            raise UserError("logging.wandb_project is set, but wandb is not installed: `pip install wandb`, "
                            "or set logging.wandb_project to an empty string.") from error
        name = pathlib.Path(config.run_dir).name
        mark = folder / "wandb_id"
        run_id = mark.read_text().strip() if mark.exists() else wandb.util.generate_id()
        mark.write_text(run_id)
        self._run = wandb.init(project=config.logging.wandb_project, name=f"{name} {phase}", group=name,
                               id=run_id, resume="allow", config=dict(settings))

    def write(self, step: int, metrics: Row) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def cut_events(folder: pathlib.Path, last_step: int) -> None:
    """Drops the events beyond last_step from all TensorBoard files in a folder, and an unfinished last
    record."""
    for path in sorted(folder.glob("*tfevents*")) if folder.exists() else ():
        replace(path, b"".join(_events(path.read_bytes(), lambda step: step <= last_step)))


def _events(data: bytes, keep: Callable[[int], bool]) -> list[bytes]:
    """The whole records of an event file (length u64, its CRC, payload, its CRC) whose step is to be kept."""
    from tensorboardX.proto.event_pb2 import Event
    kept = []
    start = 0
    while start + 12 <= len(data):
        length = struct.unpack("<Q", data[start:start + 8])[0]
        end = start + 12 + length + 4
        if end > len(data):
            break
        if keep(Event.FromString(data[start + 12:end - 4]).step):
            kept.append(data[start:end])
        start = end
    return kept
