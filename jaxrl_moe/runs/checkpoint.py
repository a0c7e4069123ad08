"""Checkpoints: the trained arrays through Orbax, and beside them JSON that says where the run stood.

A checkpoint is a folder named by its step. Orbax writes it under a temporary name and renames it when it is
whole, so a killed or failed save leaves earlier ones untouched and nothing that looks like a checkpoint.
"""
import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.state import fingerprint, flat_arrays
from jaxrl_moe.system_errors import mend
from jaxrl_moe.types import UserError


class CheckpointError(UserError):
    """A checkpoint that cannot be saved or does not belong to this run."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands after `step` optimisation steps; all values are JSON.

    Attributes:
      step: finished steps.
      sequence: the draw counter: number of the next prompt drawn, which with the seed decides its noise.
      data: position of the prompt iterator.
      unfinished: [draw number, prompt's index] of prompts that were drawn before these, but neither trained
        on nor set aside: they are drawn again, under their own numbers.
      best_score: highest evaluation score so far, or None.
      kl_coef: the adaptive KL coefficient of the next step, or None.
    """
    step: int = 0
    sequence: int = 0
    data: Any = None
    unfinished: list = dataclasses.field(default_factory=list)
    best_score: float | None = None
    kl_coef: float | None = None


class Checkpoints:
    """The checkpoints of one run: the newest `keep` of them and the best by evaluation.

    Args:
      folder: where they lie; made if absent.
      keep: how many of the newest are kept.
      identity: JSON that names the model and what is trained, as from `identity()`.
      config: the resolved configuration as JSON.
    """

    def __init__(self, folder: str | pathlib.Path, *, keep: int, identity: dict, config: dict):
        self.folder = pathlib.Path(folder).absolute()
        self.identity = identity
        self.config = config
        best = checkpoint_managers.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                [checkpoint_managers.LatestN(keep), best]), best_fn=_score, enable_async_checkpointing=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        # Orbax would do it in the background, while this run writes already
        hosts.on_leader(self._remove_partial)
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_names=("state", "meta"))

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        return hosts.from_leader(self._steps)

    def _steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def save(self, state: Any, progress: Progress, score: float | None = None) -> None:
        """Writes state (a pytree of arrays) and progress; `score` is the evaluation at this step, if there
        was one.

        Raises:
          CheckpointError: the disk is full or cannot be written; earlier checkpoints stay as they were.
        """
        meta = {"progress": dataclasses.asdict(progress), "identity": self.identity, "config": self.config}
        items = ocp.args.Composite(state=ocp.args.StandardSave(flat_arrays(state)),
                                   meta=ocp.args.JsonSave(meta))
        metrics = None if score is None else {"score": score}
        try:
            with quiet():
                self._manager.save(progress.step, args=items, metrics=metrics, force=True)
        except Exception as error:  # Orbax wraps a full disk in several types, by the layer that met it
            self._remove_partial()
            self._manager.reload()
            raise CheckpointError(
                f"The checkpoint of step {progress.step} could not be saved in {self.folder}: "
                f"{_reason(error)}. Whole checkpoints there: {self._steps() or 'none'}. "
                f"{mend(error)}") from error

    def restore(self, like: Any) -> tuple[Any, Progress]:
        """The newest checkpoint as (a pytree like `like`, its Progress).

        Raises:
          CheckpointError: it was written for another model or another set of trained weights, or it is
            damaged.
        """
        step = self.steps()[-1]
        meta = self._read(step, "meta", ocp.args.JsonRestore())
        if not isinstance(meta, dict) or not {"identity", "progress"} <= meta.keys():
            raise self._damaged(step, "its meta has no identity or no progress")
        self._compare(step, meta["identity"])
        template = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
                    for name, leaf in flat_arrays(like).items()}
        restored = self._read(step, "state", ocp.args.StandardRestore(template))
        leaves = [restored[name] for name in flat_arrays(like)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), Progress(**meta["progress"])

    def _read(self, step: int, item: str, arguments: Any) -> Any:
        try:
            with quiet():
                return self._manager.restore(step, args=ocp.args.Composite(**{item: arguments}))[item]
        except (MemoryError, PermissionError, jax.errors.JaxRuntimeError):  # no fault of the checkpoint
            raise
        except Exception as error:  # Orbax and TensorStore each raise their own
            raise self._damaged(step, _reason(error)) from error

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        before = [other for other in self._steps() if other < step]
        mend = "start this phase again, for there is no earlier one"
        if before:
            mend = f"go on from step {before[-1]}"
        return CheckpointError(f"The checkpoint {self.folder / str(step)} cannot be read: {reason}. Delete "
                               f"that folder, or move it away, and give the same command again to {mend}.")

    def close(self) -> None:
        self._manager.close()

    def _compare(self, step: int, saved: dict) -> None:
        """Refuses a checkpoint whose identity differs, naming what differs."""
        ours = json.loads(json.dumps(self.identity))
        differences = [
            f"{key}: {_short(saved.get(key))} there, {_short(ours.get(key))} here"
            for key in sorted(saved.keys() | ours.keys(), key=lambda key: (key.startswith("array "), key))
            if saved.get(key) != ours.get(key)
        ]
        if differences:
            more = f" and {len(differences) - 5} more" if len(differences) > 5 else ""
            raise CheckpointError(
                f"The checkpoint {self.folder / str(step)} belongs to another model or run "
                f"({'; '.join(differences[:5])}{more}). Give a fresh run_dir, or set the model and lora "
                "sections, and algorithm.advantage if it has another critic, as they were; the checkpoint's "
                "own configuration stands in its meta folder.")

    def _remove_partial(self) -> None:
        for path in self.folder.glob("*orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)


def identity(model_config: dict, lora: dict, state: Any, frozen: Any) -> dict:
    """What must agree between a checkpoint and the run that loads it.

    Args:
      model_config: the model's configuration as a dict.
      lora: the lora section as JSON.
      state: pytree of the arrays that are trained and their optimiser state.
      frozen: pytree of the weights that stay as loaded; a few values of each are hashed, so that a checkpoint
        of adapters is not laid over another base of the same shape.
    """
    shapes = {f"array {name}": f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in flat_arrays(state).items()}
    return {f"model {key}": value for key, value in model_config.items()} | {
        f"lora {key}": value for key, value in lora.items()} | shapes | {"base weights": fingerprint(frozen)}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Orbax from logging what is raised anyway, and from warning that a checkpoint has no score."""
    before = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _score(metrics: dict) -> float:
    return metrics["score"]


def _short(value: Any) -> str:
    return "absent" if value is None else str(value)[:80]


def _reason(error: Exception) -> str:
    """One line for the cause; a full disk is named, whatever layer met it."""
    text = f"{error} {error.__cause__ or ''}"
    full = any(sign in text for sign in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "Disk quota"))
    return "the disk is full" if full else (str(error).strip().splitlines()
                                            or [type(error).__name__])[0][:300]
