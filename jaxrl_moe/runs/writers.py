"""Where metrics go: the console, a JSONL file, TensorBoard, and Weights & Biases if asked for.

A resumed run cuts its files back to the checkpoint's step, so that no step stands in them twice.
"""
import pathlib
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Protocol

from jaxrl_moe.config import Config
from jaxrl_moe.log_files import Cut, Tally, aside_name, open_to_append, replace, set_aside, write_line
from jaxrl_moe.types import UserError

Row = Mapping[str, float]


class Writer(Protocol):
    def write(self, step: int, metrics: Row) -> None:
        """Records the metrics of one step; what it wrote outlives a kill of the process."""

    def close(self) -> None:
        """Finishes the record."""


class JsonLines:
    """One JSON object a step: {"step": 3, "reward/mean": 0.25, ...}."""

    def __init__(self, path: pathlib.Path, tally: Tally | None = None):
        self._file = open_to_append(path)
        self._tally = tally or Tally()

    def write(self, step: int, metrics: Row) -> None:
        write_line(self._file, {"step": step, **metrics})
        self._tally.add(step)

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files of scalars."""

    def __init__(self, folder: pathlib.Path, tally: Tally | None = None):
        import tensorboardX
        self._tally = tally or Tally()
        # names are by the second otherwise, and a quick restart would overwrite
        suffix = f".{time.time_ns()}"
        self._writer = tensorboardX.SummaryWriter(str(folder), flush_secs=3600, filename_suffix=suffix)

    def write(self, step: int, metrics: Row) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
            self._tally.add(step)
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
        replace(mark, run_id.encode())
        self._run = wandb.init(project=config.logging.wandb_project, name=f"{name} {phase}", group=name,
                               id=run_id, resume="allow", config=dict(settings))

    def write(self, step: int, metrics: Row) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def cut_events(folder: pathlib.Path, last_step: int, due: int = -1) -> Cut:
    """Sets the events beyond last_step aside from all TensorBoard files in a folder, with an unfinished last
    record (the whole folder for -1).

    Args:
      due: see log_files.aside_name.

    Raises:
      UserError: a file is damaged.
    """
    files = sorted(folder.glob("*tfevents*")) if folder.exists() else []
    if last_step < 0:
        return _cut_all(folder, files, due)
    cut = Cut()
    parts = {path: _part(path, last_step, cut) for path in files}
    if any(others for _, others in parts.values()):
        cut.aside = aside_name(folder, last_step, cut, due)
        cut.aside.mkdir()
    for path, (kept, others) in parts.items():
        if others:
            replace(cut.aside / path.name, b"".join(kept[:1] + others))  # the first says what the file is
            replace(path, b"".join(kept))
    return cut


def _part(path: pathlib.Path, last_step: int, cut: Cut) -> tuple[list[bytes], list[bytes]]:
    """The records of an event file up to last_step, and the others; both are counted."""
    kept = []
    others = []
    for record, step, counts in _events(path):
        keep = step is not None and step <= last_step
        (kept if keep else others).append(record)
        if counts and step is not None:
            (cut.kept if keep else cut.dropped).add(step)
    return kept, others


def _cut_all(folder: pathlib.Path, files: list[pathlib.Path], due: int) -> Cut:
    cut = Cut()
    try:
        for path in files:
            _part(path, -1, cut)
    except UserError:
        cut.damaged = True
    cut.aside = set_aside(folder, cut, due) if files else None
    return cut


def _events(path: pathlib.Path) -> Iterator[tuple[bytes, int | None, bool]]:
    """(record, its step, whether it holds numbers) of an event file: length u64, its CRC, payload, its CRC. A
    last record that a kill left unfinished has no step."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c
    data = path.read_bytes()
    start = 0
    while start < len(data):
        length, check = struct.unpack("<QI", data[start:start + 12].ljust(12, b"\0"))
        end = start + 12 + length + 4
        if start + 12 <= len(data) and check != masked_crc32c(data[start:start + 8]):
            raise _damaged_events(path, start)
        if start + 12 > len(data) or end > len(data):
            yield data[start:], None, False
            return
        try:
            event = Event.FromString(data[start + 12:end - 4])
        except DecodeError as error:
            raise _damaged_events(path, start) from error
        yield data[start:end], event.step, bool(event.summary.value)
        start = end


def _damaged_events(path: pathlib.Path, start: int) -> UserError:
    return UserError(f"{path} is damaged: at byte {start} there is no whole event. Move the file away and "
                     "start again; nothing but TensorBoard's curves depends on it.")
