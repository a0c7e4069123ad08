"""Checkpoints: the trained arrays through Orbax, and beside them JSON that says where the run stood.

A checkpoint is a folder named by its step. It is written under another name, with a hash of each of its
files, and renamed when it is whole, so a killed or failed save leaves earlier ones untouched and nothing that
looks like a checkpoint.
"""
import contextlib
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.state import flat_arrays
from jaxrl_moe.log_files import free_name
from jaxrl_moe.outside import OutsideError
from jaxrl_moe.runs.checkpoints import hashes, meta
from jaxrl_moe.runs.checkpoints.identity import refuse_other
from jaxrl_moe.runs.checkpoints.meta import CheckpointError, Meta, Progress
from jaxrl_moe.system_errors import mend
from jaxrl_moe.types import UserError

STATE = "state"
_PARTIAL = ".partial"   # is being written
_REPLACED = ".replaced"  # was there before one of the same step, which is about to get its name
_DELETED = ".deleted"   # is being removed


class Checkpoints:
    """The checkpoints of one run: the newest `keep` of them and the best by evaluation.

    Args:
      folder: where they lie; made if absent.
      keep: how many of the newest are kept.
      identity: JSON that names the model and what is trained, as from `identity.identity()`.
      config: the resolved configuration as JSON.
    """

    def __init__(self, folder: str | pathlib.Path, *, keep: int, identity: dict, config: dict):
        self.folder = pathlib.Path(folder).absolute()
        self.keep = keep
        self.identity = identity
        self.config = config
        hosts.on_leader(self._open)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _tidy(self.folder)

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        return hosts.from_leader(lambda: steps_in(self.folder))

    def save(self, state: Any, progress: Progress, score: float | None = None,
             logs: Mapping[str, Any] | None = None) -> None:
        """Writes state (a pytree of arrays) and progress; `score` is the evaluation at this step, if there
        was one, and `logs` what the logs hold, see Meta.

        Raises:
          CheckpointError: the disk is full or cannot be written; earlier checkpoints stay as they were.
        """
        contents = Meta(progress, self.identity, self.config, logs or {}, score)
        partial = self.folder / f".{progress.step}{_PARTIAL}"
        try:
            hosts.on_leader(lambda: _start(partial))
            with quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as writer:
                writer.save(partial / STATE, args=ocp.args.StandardSave(flat_arrays(state)))
            hosts.on_leader(lambda: meta.write(partial, contents))
            hashes.seal(partial)
            hosts.on_leader(lambda: self._finish(partial, progress.step))
        except Exception as error:  # Orbax wraps a full disk in several types, by the layer that met it
            shutil.rmtree(partial, ignore_errors=True)
            raise CheckpointError(
                f"The checkpoint of step {progress.step} could not be saved in {self.folder}: "
                f"{_reason(error)}. Whole checkpoints there: {steps_in(self.folder) or 'none'}. "
                f"{mend(error)}") from error

    def _finish(self, partial: pathlib.Path, step: int) -> None:
        """Gives a checkpoint its name, and removes those that are no longer kept."""
        target = self.folder / str(step)
        replaced = self.folder / f".{step}{_REPLACED}"
        if target.exists():
            target.rename(replaced)
        partial.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
        for old in self._superfluous():
            deleted = self.folder / f".{old}{_DELETED}"
            (self.folder / str(old)).rename(deleted)
            shutil.rmtree(deleted, ignore_errors=True)

    def _superfluous(self) -> list[int]:
        """Steps that are neither among the newest nor the best."""
        there = steps_in(self.folder)
        scores = {step: _score(self.folder / str(step)) for step in there}
        judged = [step for step in there if scores[step] is not None]
        best = max(judged, key=lambda step: (scores[step], step), default=None)
        return [step for step in there[:-self.keep] if step != best]

    def restore(self, like: Any, step: int | None = None) -> tuple[Any, Progress]:
        """The checkpoint of a step (None: the newest) as (a pytree like `like`, its Progress).

        Raises:
          CheckpointError: it was written for another model or another set of trained weights, or by another
            version, or it is damaged.
        """
        step = self.steps()[-1] if step is None else step
        folder = self.folder / str(step)
        contents = read_meta(folder)
        try:
            hashes.refuse_damaged(folder)
        except OutsideError as error:
            raise damaged(folder, str(error)) from error
        refuse_other(folder, contents, self.identity, self.config)
        template = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                    for name, leaf in flat_arrays(like).items()}
        restored = self._arrays(folder, template)
        leaves = [restored[name] for name in flat_arrays(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), contents.progress

    def _arrays(self, folder: pathlib.Path, template: dict[str, Any]) -> dict[str, jax.Array]:
        try:
            with quiet(), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                return reader.restore(folder / STATE, args=ocp.args.StandardRestore(template))
        except (MemoryError, PermissionError, jax.errors.JaxRuntimeError):  # no fault of the checkpoint
            raise
        except Exception as error:  # Orbax and TensorStore each raise their own
            raise damaged(folder, _reason(error)) from error

    def set_aside_after(self, step: int) -> list[str]:
        """Renames the checkpoints beyond a step, in process 0, so that the run can go on from it; their new
        names."""
        later = [self.folder / str(other) for other in steps_in(self.folder) if other > step]
        names = [free_name(path.with_name(f"{path.name}.aside")) for path in later]
        for path, name in zip(later, names):
            path.rename(name)
        return [name.name for name in names]


def steps_in(folder: pathlib.Path) -> list[int]:
    """Steps of the whole checkpoints in a folder, oldest first."""
    names = [path.name for path in folder.glob("*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and name == str(int(name)))


def read_meta(folder: pathlib.Path) -> Meta:
    """What the checkpoint in a folder says of itself; raises CheckpointError where it is damaged."""
    try:
        return meta.read(folder)
    except OutsideError as error:
        raise damaged(folder, str(error)) from error


def damaged(folder: pathlib.Path, reason: str) -> CheckpointError:
    """That the checkpoint in a folder cannot be read, with the way back."""
    before = [other for other in steps_in(folder.parent) if other < int(folder.name)]
    mend = "There is no earlier one: put back an undamaged copy, or move it away and start this phase again"
    if before:
        mend = (f"Put back an undamaged copy, or go on from step {before[-1]}: add --config.checkpoint."
                f"resume_step={before[-1]} to the same command; what is later is then set aside")
    return CheckpointError(f"The checkpoint {folder} cannot be read: {reason.rstrip('.')}. {mend}.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Orbax from logging what is raised anyway."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _start(partial: pathlib.Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()


def _tidy(folder: pathlib.Path) -> None:
    """Removes what a killed save left; a checkpoint that was about to be replaced gets its name back."""
    for path in folder.glob(f".*{_REPLACED}"):
        target = folder / path.name[1:].removesuffix(_REPLACED)
        if not target.exists():
            path.rename(target)
    for pattern in (f".*{_PARTIAL}", f".*{_REPLACED}", f".*{_DELETED}", "*orbax-checkpoint-tmp*"):
        for path in folder.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


def _score(step: pathlib.Path) -> float | None:
    """The evaluation of an earlier checkpoint; None also where it cannot be read: that it is damaged is said
    to who wants to go on from it, and is no reason to lose the present one."""
    try:
        return meta.read(step).score
    except UserError:
        return None


def _reason(error: Exception) -> str:
    """One line for the cause; a full disk is named, whatever layer met it."""
    text = f"{error} {error.__cause__ or ''}"
    full = any(sign in text for sign in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "Disk quota"))
    return "the disk is full" if full else (str(error).strip().splitlines()
                                            or [type(error).__name__])[0][:300]
