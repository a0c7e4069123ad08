"""What a run costs in device-hours and money, by a plan's floor or by a run's measured steps, and how long a
budget lasts."""
import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrl_moe.config import Config, to_json
from jaxrl_moe.planning.waiting import evaluations
from jaxrl_moe.runs.checkpoints.resuming import changes, read_settings
from jaxrl_moe.runs.logs import METRICS, SETTINGS
from jaxrl_moe.runs.report import Rows, read_rows
from jaxrl_moe.types import UserError

# Sections of settings that decide how long a step takes.
_SHAPING = ("model", "scratch", "lora", "data", "env", "episodes", "algorithm", "critic", "moe", "mesh",
            "rollout_mesh", "rollout", "train", "sft")
_LENGTHS = ("train.steps", "train.max_minutes", "sft.steps", "sft.epochs", "sft.eval_every")
_SHOWN = 6  # settings that a note names


@dataclasses.dataclass(frozen=True)
class Rates:
    """What is paid, in any currency.

    Attributes:
      price: of one device for an hour; 0: not said.
      budget: that there is; 0: not said.

    Raises:
      UserError: there is a budget and no price.
    """
    price: float = 0.0
    budget: float = 0.0

    def __post_init__(self) -> None:
        if self.budget and not self.price:
            raise UserError(f"--budget={self.budget:g} lasts as long as its devices cost: give --price too, "
                            "that of one for an hour, such as --price=0.69.")


UNPAID = Rates()


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Seconds of a phase's rows, as medians: of a step without evaluation, checkpoint and compilation, of an
    evaluation, of a checkpoint; of all compilations together; and over how many steps."""
    step: float = 0.0
    evaluation: float = 0.0
    checkpoint: float = 0.0
    compiled: float = 0.0
    count: int = 0


def cost_lines(hours: float, step_hours: float, steps: int, devices: int, rates: Rates,
               least: bool) -> list[str]:
    """What a run costs, and what the budget is good for.

    Args:
      hours: device-hours of the whole run; step_hours: of one of its steps of RL, 0 if it has none.
      steps: of RL; devices: of the run.
      least: whether these are floors.
    """
    bound = "at least " if least else "about "
    money = f", {hours * rates.price:,.2f} at {rates.price:g} an hour" if rates.price else ""
    lines = [f"whole run of {steps} steps: {bound}{hours:,.3g} GPU-hours{money}"]
    if rates.budget:
        paid = rates.budget / rates.price
        used = f"{devices} devices use up" if devices > 1 else "1 device uses up"
        bound = "at most" if least else "about"
        fits = f": {bound} {int(paid / step_hours):,} steps like this run's" if step_hours else ""
        lines.append(f"budget: {rates.budget:g} at {rates.price:g} an hour are {paid:,.1f} GPU-hours, which "
                     f"{used} in {paid / devices:,.1f} hours{fits}; the run takes {hours / paid:.1%} of it")
    return lines


def measured_text(config: Config, folder: str, devices: int, rates: Rates) -> str:
    """What a run costs whose steps take as long as those of a run that is there.

    Args:
      config: resolved; of the run to come.
      folder: run_dir of the other, on as many and such devices.

    Raises:
      UserError: the folder holds no run, or too few steps.
    """
    path = pathlib.Path(folder)
    rl = step_times(read_rows(path / METRICS))
    tuned = step_times(read_rows(path / "sft" / METRICS), apart=True)
    _refuse_too_few(config, path, rl, tuned)
    seconds = _seconds(config, rl, tuned)
    lines = [f"measured in {folder}: {text}" for text in (_told("RL", rl), _told("SFT", tuned)) if text]
    steps = config.train.steps
    lines += cost_lines(seconds * devices / 3600, rl.step * devices / 3600 * bool(steps), steps, devices,
                        rates, least=False)
    return "\n".join([*lines, *_notes(config, path)])


def step_times(rows: Rows, apart: bool = False) -> StepTimes:
    """Of the rows of a phase. apart: their step's time has no evaluation in it, as in those of SFT."""
    steps = [row for row in rows if "time/step_s" in row]

    def net(row: Mapping[str, Any]) -> float:
        evaluation = 0.0 if apart else row.get("time/evaluate_s", 0.0)
        return max(row["time/step_s"] - evaluation - row.get("perf/compile_s", 0.0), 0.0)

    return StepTimes(_median([net(row) for row in steps]), _median(_column(rows, "time/evaluate_s")),
                     _median(_column(rows, "time/checkpoint_s")), sum(_column(rows, "perf/compile_s")),
                     len(steps))


def _column(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _refuse_too_few(config: Config, path: pathlib.Path, rl: StepTimes, tuned: StepTimes) -> None:
    for phase, times, planned, file in (("RL", rl, config.train.steps, path / METRICS),
                                        ("SFT", tuned, config.sft.steps, path / "sft" / METRICS)):
        if planned and times.count < 2:
            raise UserError(f"--measured={path}: {file} has {times.count} steps of {phase}, and its time a "
                            "step takes two at least. Name the run_dir of a run that did some, such as one "
                            f"with --config.{'train' if phase == 'RL' else 'sft'}.steps=5.")


def _seconds(config: Config, rl: StepTimes, tuned: StepTimes) -> float:
    """Of the whole run to come."""
    steps = config.train.steps
    checkpoints = steps // config.checkpoint.every if config.checkpoint.every else 1
    training = steps * rl.step + evaluations(config) * rl.evaluation + checkpoints * rl.checkpoint
    tuning = config.sft.steps * tuned.step + bool(config.sft.steps) * tuned.evaluation
    return bool(steps) * (training + rl.compiled) + tuning + bool(config.sft.steps) * tuned.compiled


def _told(phase: str, times: StepTimes) -> str:
    if not times.count:
        return ""
    parts = [f"{times.step:,.3g} s a step of {phase} (median of {times.count}, without what follows)"]
    parts += [f"{value:,.3g} s {what}" for value, what in (
        (times.evaluation, "an evaluation"), (times.checkpoint, "a checkpoint"),
        (times.compiled, "of compilation")) if value]
    return ", ".join(parts)


def _notes(config: Config, path: pathlib.Path) -> list[str]:
    """What was different, so that the times may be others."""
    before = read_settings(path / SETTINGS)
    if not before:
        return [f"note: {path / SETTINGS} is not there, so nobody knows whether the measured run was like "
                "this one."]
    differing = [change for change in changes(before, to_json(config))
                 if change.split(".")[0] in _SHAPING and change.split(":")[0] not in _LENGTHS]
    if not differing:
        return []
    more = f", and {len(differing) - _SHOWN} more" * (len(differing) > _SHOWN)
    return [f"note: the measured run was not like this one: {'; '.join(differing[:_SHOWN])}{more}."]
