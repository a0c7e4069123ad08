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
from jaxrl_moe.runs import writers
from jaxrl_moe.runs.checkpoints import checkpoint
from jaxrl_moe.runs.checkpoints import identity as identities
from jaxrl_moe.runs.checkpoints.checkpoint import Checkpoints
from jaxrl_moe.runs.checkpoints.identity import REFERENCE
from jaxrl_moe.runs.checkpoints.meta import Meta, Progress
from jaxrl_moe.runs.checkpoints.resuming import (
    CHECKPOINTS,
    changes,
    read_settings,
    refuse_lost_checkpoints,
    resumed_step,
)
from jaxrl_moe.runs.console import Console
from jaxrl_moe.runs.evaluation import Evaluation
from jaxrl_moe.runs.logs import EVENTS, LOADS, METRICS, SETTINGS, TRAJECTORIES, Logs
from jaxrl_moe.runs.monitor import Compilations, ProfilerWindow
from jaxrl_moe.runs.stopping import Ending, StopSignal
from jaxrl_moe.runs.trajectories import Trajectories
from jaxrl_moe.types import RolloutGroup, UserError


@dataclasses.dataclass
class Run:
    """What the loop talks to besides the algorithm.

    Attributes:
      folder: where the files of this phase lie.
      progress: where the phase stands; the loop replaces it after every step.
      last_step: where it ends.
      logs: what its logs hold.
      stop: true once it is to end before its last step.
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

    def goes_on(self) -> bool:
        """Whether there is another step, which then begins."""
        if self.progress.step >= self.last_step or self.stop:
            return False
        self.stop.next_step()
        return True

    @property
    def ending(self) -> Ending:
        """Of a run that does not go on."""
        return Ending.DONE if self.progress.step >= self.last_step else self.stop.ending

    def due(self, every: int) -> bool:
        """Whether what is done every so many steps (0: only at the end) is due now."""
        step = self.progress.step
        return step >= self.last_step or (every > 0 and step % every == 0)

    def save(self, learner: Learner, score: float | None = None) -> None:
        """Writes a checkpoint of the present step; raises CheckpointError as Checkpoints.save."""
        self.checkpoints.save(learner.stored(), self.progress, score, self.logs.to_json())
        if hosts.leads():
            self.logs.saved(self.progress.step)

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
    with contextlib.ExitStack() as stack, StopSignal(config.train.max_minutes).listen() as stop:
        def closing(thing: Any) -> Any:
            stack.callback(thing.close)
            return thing

        last = last_step(progress)
        console = closing(Console(title, last, progress.step))
        trajectories = None
        if hosts.leads():
            _go_back(logs, checkpoints, contents, settings, console, _next_due(config, progress.step, last))
        if config.logging.trajectories and hosts.leads():
            trajectories = closing(Trajectories(folder / TRAJECTORIES, decode, logs.tallies[TRAJECTORIES]))
        metric_writers = [closing(writer) for writer in _writers(config, logs, title, settings)] + [console]
        yield Run(folder, progress, last, checkpoints, logs, metric_writers, trajectories, console,
                  closing(Compilations()), closing(ProfilerWindow(config.logging, folder / "profile")), stop)


def _go_to(position: Callable[[Progress], None], contents: Meta, settings: Mapping) -> None:
    """Goes to a checkpoint's position in the data; a refusal names the settings that may be the reason."""
    try:
        position(contents.progress)
    except UserError as error:
        changed = changes(contents.config, settings)
        if not changed:
            raise
        differing = "; ".join(changed)
        raise UserError(f"{error} Settings that differ from the checkpoint's: {differing}.") from error


def _next_due(config: Config, step: int, last_step: int) -> int:
    """Step of the checkpoint that comes after `step`; -1 where somebody chose to go back to it."""
    every = config.checkpoint.every
    if config.checkpoint.resume_step >= 0:
        return -1
    return min(last_step, (step // every + 1) * every) if every else last_step


def _go_back(logs: Logs, checkpoints: Checkpoints, contents: Meta | None, settings: dict,
             console: Console, due: int) -> None:
    """Brings the folder to where the checkpoint stands, and says what that means; writes config.json."""
    step = -1 if contents is None else contents.progress.step
    for line in logs.cut_back(step, {} if contents is None else contents.logs, due):
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
    reference = {} if learner.reference is None else {REFERENCE: learner.reference.mark}
    return critic | reference | identities.identity(dataclasses.asdict(learner.config), lora,
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
    changed = changes(read_settings(path) or saved, settings)
    if changed:
        console.say("Settings changed since the last start: " + "; ".join(changed))
