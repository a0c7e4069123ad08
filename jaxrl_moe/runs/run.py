"""One phase of a run (SFT or RL) as far as it touches disk and screen, and its way back to where it was
killed."""
import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl_moe import log_files
from jaxrl_moe.config import Config, ConfigError, resolve, to_json
from jaxrl_moe.distributed.chips import default_dtype, platform_of
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.outside import read_object
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.runs import checkpoint, writers
from jaxrl_moe.runs.checkpoint import Checkpoints, steps_in
from jaxrl_moe.runs.console import Console
from jaxrl_moe.runs.evaluation import Evaluation
from jaxrl_moe.runs.logs import EVENTS, LOADS, METRICS, SETTINGS, TRAJECTORIES, Logs
from jaxrl_moe.runs.meta import Meta, Progress
from jaxrl_moe.runs.monitor import Compilations, ProfilerWindow, StopSignal
from jaxrl_moe.runs.trajectories import Trajectories
from jaxrl_moe.types import RolloutGroup, UserError

CHECKPOINTS = "checkpoints"


@dataclasses.dataclass
class Run:
    """What the loop talks to besides the algorithm.

    Attributes:
      folder: where the files of this phase lie.
      progress: where the phase stands; the loop replaces it after every step.
      last_step: where it ends.
      logs: what its logs hold.
      stop: true once SIGTERM came.
    """
    folder: pathlib.Path
    progress: Progress
    last_step: int
    checkpoints: Checkpoints
    logs: Logs
    metric_writers: list[writers.Writer]
    trajectories: Trajectories | None
    console: Console
    compilations: Compilations
    profiler: ProfilerWindow
    stop: StopSignal
    _lap: float = dataclasses.field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds since the last call, or since the start."""
        before = self._lap
        self._lap = time.perf_counter()
        return self._lap - before

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.last_step or bool(self.stop)

    def due(self, every: int) -> bool:
        """Whether what is done every so many steps (0: only at the end) is due now."""
        step = self.progress.step
        return step >= self.last_step or (every > 0 and step % every == 0)

    def save(self, learner: Learner, score: float | None = None) -> None:
        """Writes a checkpoint of the present step; raises CheckpointError as Checkpoints.save."""
        self.checkpoints.save(learner.stored(), self.progress, score, self.logs.to_json())

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Writes the row of a step."""
        for writer in self.metric_writers:
            writer.write(step, metrics)

    def record(self, phase: str, groups: Sequence[RolloutGroup], samples: Sequence | None = None) -> None:
        """Writes rollouts to the trajectories file, if one is kept; samples: [group][rollout] what was
        trained on."""
        if self.trajectories is not None:
            self.trajectories.write(self.progress.step, phase, groups, samples)

    def record_load(self, step: int, load_LE: np.ndarray) -> None:
        """Writes the rows that each expert of each sparse layer got in a step."""
        if hosts.leads():
            with log_files.open_to_append(self.folder / LOADS) as file:
                log_files.write_line(file, {"step": step, "load": load_LE.tolist()})
            self.logs.tallies[LOADS].add(step)

    def record_evaluation(self, evaluation: Evaluation) -> bool:
        """Writes an evaluation's rollouts; returns whether its score is the best so far."""
        for phase, groups in evaluation.groups.items():
            self.record(phase, groups)
        best = self.progress.best_score is None or evaluation.score > self.progress.best_score
        if best:
            self.progress = dataclasses.replace(self.progress, best_score=evaluation.score)
        return best


@contextlib.contextmanager
def open_run(config: Config, folder: pathlib.Path, title: str, learner: Learner,
             last_step: Callable[[Progress], int], position: Callable[[Progress], None],
             decode: Callable[[Sequence[int]], str]) -> Iterator[Run]:
    """Opens the files of a phase at the checkpoint that it goes on from, if there is one, or anew; closes
    them whatever happens. Nothing is written before the checkpoint is found to fit.

    Args:
      config: resolved.
      folder: of the phase.
      title: of the phase, such as "RL".
      learner: takes over the checkpoint's arrays.
      last_step: where the phase ends, by where it stands.
      position: goes to the checkpoint's position in the data, or raises a UserError.
      decode: ids to text.

    Raises:
      UserError: the folder holds an earlier run and checkpoint.resume is false; or what it holds cannot be
        gone on with.
    """
    settings = to_json(config)
    hosts.on_leader(lambda: refuse_lost_checkpoints(folder))
    checkpoints = Checkpoints(folder / CHECKPOINTS, keep=config.checkpoint.keep,
                              identity=identity(learner, config), config=settings)
    step = hosts.from_leader(lambda: resumed_step(config, folder))
    progress = Progress()
    contents = None
    if step >= 0:
        state, progress = checkpoints.restore(learner.stored(), step)
        contents = checkpoint.read_meta(checkpoints.folder / str(step))
        _go_to(position, contents, settings)
        learner.take_over(state)
    logs = Logs(folder)
    with contextlib.ExitStack() as stack, StopSignal().listen() as stop:
        def closing(thing: Any) -> Any:
            stack.callback(thing.close)
            return thing

        last = last_step(progress)
        console = closing(Console(title, last, progress.step))
        trajectories = None
        if hosts.leads():
            _go_back(logs, checkpoints, contents, settings, console)
        if config.logging.trajectories and hosts.leads():
            trajectories = closing(Trajectories(folder / TRAJECTORIES, decode, logs.tallies[TRAJECTORIES]))
        metric_writers = [closing(writer) for writer in _writers(config, logs, title, settings)] + [console]
        yield Run(folder, progress, last, closing(checkpoints), logs, metric_writers, trajectories, console,
                  closing(Compilations()), closing(ProfilerWindow(config.logging, folder / "profile")), stop)


def _go_to(position: Callable[[Progress], None], contents: Meta, settings: Mapping) -> None:
    """Goes to a checkpoint's position in the data; a refusal names the settings that may be the reason."""
    try:
        position(contents.progress)
    except UserError as error:
        changed = _changes(contents.config, settings)
        if not changed:
            raise
        differing = "; ".join(changed)
        raise UserError(f"{error} Settings that differ from the checkpoint's: {differing}.") from error


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


def _go_back(logs: Logs, checkpoints: Checkpoints, contents: Meta | None, settings: dict,
             console: Console) -> None:
    """Brings the folder to where the checkpoint stands, and says what that means; writes config.json."""
    step = -1 if contents is None else contents.progress.step
    for line in logs.cut_back(step, {} if contents is None else contents.logs):
        console.say(line)
    if contents is not None:
        later = checkpoints.set_aside_after(step)
        if later:
            console.say(f"checkpoint.resume_step = {step}: the later checkpoints are now called "
                        f"{', '.join(later)}. Leave the setting out at the next start.")
        _tell_changes(logs.folder / SETTINGS, contents.config, settings, console)
        console.say(f"Going on from the checkpoint of step {step} in {checkpoints.folder}.")
    log_files.replace(logs.folder / SETTINGS, (json.dumps(settings, indent=2) + "\n").encode())


def identity(learner: Learner, config: Config) -> dict:
    """What a checkpoint must share with the run that loads it: model, adapters, critic, trained arrays,
    frozen weights, and the weights of the reference where these are kept: those that the run started from."""
    lora = {} if config.lora.rank == 0 else to_json(config)["lora"]
    critic = {} if learner.state.critic is None else {
        "critic": find_advantage(config.algorithm.advantage).critic
    }
    reference = {} if learner.reference is None else {"reference weights": learner.reference.mark}
    return critic | reference | checkpoint.identity(dataclasses.asdict(learner.config), lora,
                                                    learner.stored(), learner.parts.frozen)


def _writers(config: Config, logs: Logs, title: str, settings: Mapping) -> list[writers.Writer]:
    if not hosts.leads():
        return []
    folder = logs.folder
    chosen: list[writers.Writer] = [writers.JsonLines(folder / METRICS, logs.tallies[METRICS])]
    if config.logging.tensorboard:
        chosen.append(writers.TensorBoard(folder / EVENTS, logs.tallies[EVENTS]))
    if config.logging.wandb_project:
        chosen.append(writers.WeightsAndBiases(config, folder, title, settings))
    return chosen


def _tell_changes(path: pathlib.Path, saved: Mapping, settings: dict, console: Console) -> None:
    """Says which settings differ from the last start, or where its config.json is gone from the
    checkpoint's."""
    if not path.exists():
        console.say(f"Warning: {path} is gone; the settings are compared with the checkpoint's own.")
    changed = _changes(read_settings(path) or saved, settings)
    if changed:
        console.say("Settings changed since the last start: " + "; ".join(changed))


def _changes(before: Mapping, now: Mapping) -> list[str]:
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
