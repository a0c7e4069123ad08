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
from jaxrl_moe.config import Config, to_json
from jaxrl_moe.hosts import hosts
from jaxrl_moe.learning.step import Learner
from jaxrl_moe.rl.advantages import find_advantage
from jaxrl_moe.runs import checkpoint, writers
from jaxrl_moe.runs.checkpoint import Checkpoints, Progress
from jaxrl_moe.runs.console import Console
from jaxrl_moe.runs.evaluation import Evaluation
from jaxrl_moe.runs.monitor import Compilations, ProfilerWindow, StopSignal
from jaxrl_moe.runs.trajectories import Trajectories
from jaxrl_moe.types import RolloutGroup, UserError

LOADS = "moe_load.jsonl"


@dataclasses.dataclass
class Run:
    """What the loop talks to besides the algorithm.

    Attributes:
      folder: where the files of this phase lie.
      progress: where the phase stands; the loop replaces it after every step.
      last_step: where it ends.
      stop: true once SIGTERM came.
    """
    folder: pathlib.Path
    progress: Progress
    last_step: int
    checkpoints: Checkpoints
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

    def record_evaluation(self, evaluation: Evaluation) -> bool:
        """Writes an evaluation's rollouts; returns whether its score is the best so far."""
        for phase, groups in evaluation.groups.items():
            self.record(phase, groups)
        best = self.progress.best_score is None or evaluation.score > self.progress.best_score
        if best:
            self.progress = dataclasses.replace(self.progress, best_score=evaluation.score)
        return best


@contextlib.contextmanager
def open_run(config: Config, folder: pathlib.Path, title: str, last_step: int, identity: dict,
             decode: Callable[[Sequence[int]], str]) -> Iterator[Run]:
    """Opens the files of a phase, cut back to its newest checkpoint; closes them whatever happens.

    Raises:
      UserError: the folder holds an earlier run and checkpoint.resume is false.
    """
    settings = to_json(config)
    checkpoints = Checkpoints(folder / "checkpoints", keep=config.checkpoint.keep, identity=identity,
                              config=settings)
    steps = checkpoints.steps()
    if not config.checkpoint.resume and (steps or hosts.from_leader((folder / "metrics.jsonl").exists)):
        raise UserError(f"{folder} holds an earlier run, and checkpoint.resume is false: give another "
                        "run_dir, or delete it.")
    newest = steps[-1] if steps else -1
    if hosts.leads():
        _cut_back(folder, newest)
    with contextlib.ExitStack() as stack, StopSignal().listen() as stop:
        def closing(thing: Any) -> Any:
            stack.callback(thing.close)
            return thing

        console = closing(Console(title, last_step, max(newest, 0)))
        trajectories = None
        if hosts.leads():
            _tell_changes(folder / "config.json", settings, console, resuming=bool(steps))
        if config.logging.trajectories and hosts.leads():
            trajectories = closing(Trajectories(folder / "trajectories.jsonl", decode))
        metric_writers = [closing(writer) for writer in _writers(config, folder, title, settings)] + [console]
        yield Run(folder, Progress(), last_step, closing(checkpoints), metric_writers, trajectories, console,
                  closing(Compilations()), closing(ProfilerWindow(config.logging, folder / "profile")), stop)


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


def _writers(config: Config, folder: pathlib.Path, title: str, settings: Mapping) -> list[writers.Writer]:
    if not hosts.leads():
        return []
    chosen: list[writers.Writer] = [writers.JsonLines(folder / "metrics.jsonl")]
    if config.logging.tensorboard:
        chosen.append(writers.TensorBoard(folder / "tensorboard"))
    if config.logging.wandb_project:
        chosen.append(writers.WeightsAndBiases(config, folder, title, settings))
    return chosen


def _cut_back(folder: pathlib.Path, step: int) -> None:
    """Drops what was logged after the step; -1 drops all, of a run that was killed before its first
    checkpoint."""
    log_files.cut_lines(folder / "metrics.jsonl", step)
    log_files.cut_lines(folder / "trajectories.jsonl", step)
    log_files.cut_lines(folder / LOADS, step)
    log_files.cut_lines(folder / log_files.SERVED, step)
    writers.cut_events(folder / "tensorboard", step)


def _tell_changes(path: pathlib.Path, settings: dict, console: Console, resuming: bool) -> None:
    """Writes config.json; a resumed run says which settings differ from its last start."""
    if resuming and path.exists():
        before = flat(read_settings(path))
        now = flat(settings)
        changed = [f"{key}: {before.get(key)} -> {now.get(key)}" for key in sorted(before | now)
                   if before.get(key) != now.get(key)]
        if changed:
            console.say("Settings changed since the last start: " + "; ".join(changed))
    log_files.replace(path, (json.dumps(settings, indent=2) + "\n").encode())


def read_settings(path: pathlib.Path) -> dict[str, Any]:
    """The resolved configuration that a phase keeps in its config.json; empty if the file is absent.

    Raises:
      UserError: it is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} cannot be read as JSON: {error}. Put back the settings of that run, or "
                        "delete the file: the run then goes on without comparing them.") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} holds no JSON object. Put back the settings of that run, or delete the "
                        "file: the run then goes on without comparing them.")
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
