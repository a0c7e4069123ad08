"""Which run a folder holds: its settings, the checkpoint that it goes on from, and what both settle."""
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.config import Config, ConfigError, resolve
from jaxrl_moe.distributed.chips import default_dtype, platform_of
from jaxrl_moe.hosts import hosts
from jaxrl_moe.outside import read_object
from jaxrl_moe.runs.checkpoints import checkpoint
from jaxrl_moe.runs.checkpoints.checkpoint import steps_in
from jaxrl_moe.runs.checkpoints.meta import Progress
from jaxrl_moe.runs.logs import SETTINGS, Logs
from jaxrl_moe.types import UserError

CHECKPOINTS = "checkpoints"  # in a phase's folder


def refuse_lost_checkpoints(folder: pathlib.Path) -> None:
    """A phase makes its folder of checkpoints before its first log.

    Raises:
      UserError: there are logs in its folder, and no folder of checkpoints.
    """
    logs = Logs(folder).exist()
    if logs and not (folder / CHECKPOINTS).exists():
        raise UserError(f"{folder} holds {', '.join(logs)} of an earlier run, but its folder {CHECKPOINTS!r} "
                        "is gone, so the run cannot go on. Put it back, or begin anew in another run_dir, or "
                        "move those logs away.")


def resumed_step(config: Config, folder: pathlib.Path) -> int:
    """Step of the checkpoint that a phase goes on from; -1: it begins anew.

    Raises:
      UserError: the folder holds an earlier run and checkpoint.resume is false; or there is no checkpoint of
        the step that is asked for.
    """
    steps = steps_in(folder / CHECKPOINTS)
    wanted = config.checkpoint.resume_step
    if not config.checkpoint.resume and (steps or Logs(folder).exist()):
        raise UserError(f"{folder} holds an earlier run, and checkpoint.resume is false: give another "
                        "run_dir, or delete it.")
    if wanted >= 0 and wanted not in steps:
        raise UserError(f"checkpoint.resume_step = {wanted}: there is no checkpoint of that step in "
                        f"{folder / CHECKPOINTS}. There are {', '.join(map(str, steps)) or 'none'}: give one "
                        "of these, or leave it out to go on from the newest.")
    return wanted if wanted >= 0 else (steps or [-1])[-1]


def settled(config: Config, *beside: str) -> Config:
    """The configuration with the defaults that depend on the machine as its run has them already, or else as
    this machine does: what trained with bfloat16 on a GPU is not gone on with, evaluated or exported in
    float32 on a CPU. Kernels stay "auto": they compute the same, and one machine has not all of another's.

    Args:
      config: resolved.
      beside: models or adapters whose run, where a run exported them, comes before that of run_dir.

    Raises:
      UserError: a run's config.json is damaged.
    """
    if config.model.dtype:
        return config
    folders = [pathlib.Path(path).absolute().parent for path in beside if path]
    folders.append(pathlib.Path(config.run_dir))
    dtype = hosts.from_leader(lambda: stored_dtype(folders)) or default_dtype(platform_of())
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))


def stored_dtype(folders: Sequence[pathlib.Path]) -> str:
    """model.dtype of the first run that one of these folders, or its SFT phase, holds; empty: there is
    none."""
    phases = [folder / phase for folder in folders for phase in (".", "sft")]
    runs = [_settings_of(phase) for phase in phases if (phase / CHECKPOINTS).is_dir()]
    dtypes = [settings["model"].get("dtype", "") for settings in runs if "model" in settings]
    return next(filter(None, dtypes), "")


def _settings_of(phase: pathlib.Path) -> Mapping[str, Any]:
    """The settings of a phase's last start, or where they are gone those of its newest checkpoint."""
    settings = read_settings(phase / SETTINGS)
    steps = steps_in(phase / CHECKPOINTS)
    if settings or not steps:
        return settings
    return checkpoint.read_meta(phase / CHECKPOINTS / str(steps[-1])).config


def standing(config: Config, folder: pathlib.Path) -> Progress:
    """Where the phase of a folder will go on from."""
    step = resumed_step(config, folder)
    return Progress() if step < 0 else checkpoint.read_meta(folder / CHECKPOINTS / str(step)).progress


def changes(before: Mapping, now: Mapping) -> list[str]:
    """What differs between two configurations as JSON, such as "seed: 0 -> 1"."""
    before = flat(before)
    now = flat(now)
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted(before | now)
            if before.get(key) != now.get(key)]


def read_settings(path: pathlib.Path) -> dict[str, Any]:
    """The resolved configuration that a phase keeps in its config.json; empty if the file is absent.

    Raises:
      UserError: it is no JSON object of settings.
    """
    if not path.exists():
        return {}
    mend = ("Put back the settings of that run, or delete the file: the run then goes on without comparing "
            "them.")
    try:
        settings = read_object(path)
        resolve(settings)
    except ConfigError as error:
        raise UserError(f"{path} holds no settings of this version: {error} {mend}") from error
    except UserError as error:
        raise UserError(f"{error} {mend}") from error
    return settings


def flat(settings: Mapping) -> dict[str, Any]:
    """{"seed": 0, "lora.rank": 16, ...} of nested settings."""
    rows = {}
    for name, value in settings.items():
        rows |= {
            f"{name}.{key}": inner for key, inner in value.items()
        } if isinstance(value, dict) else {
            name: value
        }
    return rows
